"""Skip-TS: a student decoder that is given the teacher's deepest features, and its finer ones by skips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation

__all__ = ["SkipTS", "SkipTSLoss"]


class SkipTS(ReverseDistillation):
    """Skip-TS: reverse distillation without a bottleneck, with skips one stage up.

    The student starts from the teacher's map of stride 32. To what its stages of strides 16 and 8 give, the teacher's
    own map of that stride is added before the next stage: it is rebuilt without, and helps with the finer one.

    Args:
        spatial_dims, in_channels, backbone, weights, combine, sigma, reduction, scale_weights: see
            `ReverseDistillation`. A ResNet's weights may lack layer4: it is then a fixed random stage.
        skips: 2 for those of strides 16 and 8, the paper's; 1 for that of stride 16; 0 for none.

    Reference:
        Liu et al., "Anomaly Detection for Medical Images Using Teacher-Student Model With Skip Connections and
        Multiscale Anomaly Consistency", IEEE TIM 73, 2024.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        combine: str = "sum",
        sigma: float = 4.0,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
        skips: int = 2,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            combine=combine,
            sigma=sigma,
            reduction=reduction,
            scale_weights=scale_weights,
            stages=4,
        )
        if skips not in (0, 1, 2):
            raise InputError("there are no such skips", where="skips", expected="0, 1 or 2", found=skips)
        self.skips = skips

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        skips = [taps[2], taps[1]][: self.skips]
        rebuilt: list[Tensor] = self.student(taps[3], [list(tap.shape[2:]) for tap in taps[:3]], skips)
        return rebuilt


def _upsampled(features: Tensor, grid: list[int]) -> Tensor:
    mode = "bilinear" if features.dim() == 4 else "trilinear"
    return functional.interpolate(features, grid, mode=mode, align_corners=True)


class SkipTSLoss(nn.Module):
    """Cosine loss of whole maps, and that the squared error is to be the same at all scales.

    The second is the sum over three pairs of scales of how far the mean squared errors of the coarser one's maps,
    brought to the finer one's grid, and of the finer one's are apart.

    Args:
        consistency_weight: of the second.

    Shape:
        pair ``(rebuilt, teacher)`` of lists of three maps ``(B, C_k, *grid_k)``, finest first, to a scalar.

    Reference:
        Liu et al., IEEE TIM 73, 2024.
    """

    def __init__(self, consistency_weight: float = 0.05) -> None:
        super().__init__()
        self.consistency_weight = consistency_weight
        self.distil = GlobalCosineLoss()

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        rebuilt, teacher = ([part.float() for part in parts] for parts in features)
        errors = [functional.mse_loss(own, true) for own, true in zip(rebuilt, teacher, strict=True)]
        apart: list[Tensor] = []
        own, true = rebuilt[2], teacher[2]
        for finer in (1, 0):  # by way of the middle grid
            grid = list(rebuilt[finer].shape[2:])
            own, true = _upsampled(own, grid), _upsampled(true, grid)
            apart.append((functional.mse_loss(own, true) - errors[finer]).abs())
        grid = list(rebuilt[0].shape[2:])
        middle = functional.mse_loss(_upsampled(rebuilt[1], grid), _upsampled(teacher[1], grid))
        apart.append((middle - errors[0]).abs())
        distilled: Tensor = self.distil((rebuilt, teacher))
        return distilled + self.consistency_weight * torch.stack(apart).sum()

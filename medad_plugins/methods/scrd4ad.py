"""SCRD4AD: reverse distillation away from noisy scans' features, with weights of the scales for each case."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.backbones import BACKBONES, tap_channels
from medad_plugins.networks.families.distillation_parts import one_class_bottleneck
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation

__all__ = ["SCRD4AD", "ContrastiveDistillationLoss"]

Output = tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]


class SCRD4AD(ReverseDistillation):
    """SCRD4AD: RD4AD whose student is to be near the teacher's features of the scan and far from those of a noisy one.

    How much each scale counts, in the loss and in the map, is said by one linear layer of the embedding, case by case.
    Trained with `ContrastiveDistillationLoss` on scans beside noisy copies, see `medad_plugins.synthesis.NoisyCopyd`.

    Args:
        spatial_dims, in_channels, backbone, weights, combine, sigma, reduction: see `ReverseDistillation`.

    Shape:
        train: ``(B, 2 * in_channels, *spatial)``, scans and their noisy copies, to what the loss takes.

    Reference:
        Li et al., "Scale-Aware Contrastive Reverse Distillation for Unsupervised Medical Anomaly Detection", ICLR 2025.
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
    ) -> None:
        super().__init__(
            spatial_dims, in_channels, backbone, weights, combine=combine, sigma=sigma, reduction=reduction
        )
        self.bottleneck: Any = one_class_bottleneck(self.teacher, backbone, spatial_dims)
        width = tap_channels(backbone)[3] if backbone in BACKBONES else 2 * self.teacher.channels[-1]
        self.weighing = nn.Linear(width, 3)
        nn.init.zeros_(self.weighing.weight)  # the scales begin alike
        nn.init.zeros_(self.weighing.bias)

    def weighed(self, taps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """The student's features, and weights ``(B, 3)`` of the scales, whose mean is 1."""
        embedding = self.bottleneck(taps)
        rebuilt: list[Tensor] = self.student(embedding, [list(tap.shape[2:]) for tap in taps])
        logits = self.weighing(embedding.flatten(2).amax(2)).to(self.weighing.weight.dtype)
        return rebuilt, 3 * torch.softmax(logits, 1)

    def training_output(self, image: Tensor) -> Output:  # type: ignore[override]
        """The student's features of the scan, the teacher's of it and of its noisy copy, and the scales' weights."""
        taps: list[Tensor] = self.teacher(torch.cat(image.chunk(2, 1)))
        clean, noisy = ([tap.chunk(2)[half] for tap in taps] for half in (0, 1))
        rebuilt, weights = self.weighed(clean)
        return rebuilt, clean, noisy, weights

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of both features, weighed and summed over three scales, smoothed, 0..3."""
        taps = self.teacher(image)
        rebuilt, weights = self.weighed(taps)
        return self.fusion(rebuilt, taps, image.shape[2:], weights)


def _distance(rebuilt: list[Tensor], teacher: list[Tensor], weights: Tensor) -> Tensor:
    """One minus the cosine of whole maps, weighed over the scales and averaged over the batch."""
    distances = [
        1 - functional.cosine_similarity(own.flatten(1).float(), true.flatten(1).float(), dim=1)
        for own, true in zip(rebuilt, teacher, strict=True)
    ]
    return (torch.stack(distances, 1) * weights).sum(1).mean()


class ContrastiveDistillationLoss(nn.Module):
    """Distance of the student's features to those of the scan over their distance to those of its noisy copy.

    Args:
        contrastive: False leaves the second out: the loss of RD4AD with weighed scales.

    Shape:
        lists of three maps ``(B, C_k, *grid_k)`` by the student, by the teacher of the scan and by the teacher of the
        noisy copy, and weights ``(B, 3)``, to a scalar, 0 or more.

    Reference:
        Li et al., ICLR 2025.
    """

    def __init__(self, contrastive: bool = True) -> None:
        super().__init__()
        self.contrastive = contrastive

    def forward(self, output: Output, target: Tensor | None = None) -> Tensor:
        """Loss of the network's output; ``target`` is there for engines that pass one and is not used."""
        rebuilt, clean, noisy, weights = output
        near = _distance(rebuilt, clean, weights)
        return near / _distance(rebuilt, noisy, weights).clamp_min(1e-6) if self.contrastive else near

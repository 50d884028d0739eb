"""ESC-DRKD: skips to the student decoder through projections that have learnt to take anomalies away."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.blocks.projection import Projection
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation

__all__ = ["ESCDRKD", "CentreMaskedConvolution"]


class CentreMaskedConvolution(nn.Module):
    """3x3 convolution whose middle is left out: a place is predicted from its neighbours.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid)``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, 3, padding=1)
        mask = torch.ones(3**spatial_dims)
        mask[len(mask) // 2] = 0
        self.mask: Tensor = nn.Buffer(mask.reshape([1, 1] + [3] * spatial_dims), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight * self.mask
        if x.dim() == 4:
            return functional.conv2d(x, weight, self.conv.bias, padding=1)
        return functional.conv3d(x, weight, self.conv.bias, padding=1)


class SkipProjection(nn.Module):
    """Two centre-masked convolutions, narrowing to a half and back, then a `Projection`.

    Shape:
        ``(B, channels, *grid)`` to the same.
    """

    def __init__(self, channels: int, spatial_dims: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((channels, channels // 2), (channels // 2, channels)):
            layers += [
                CentreMaskedConvolution(spatial_dims, before, after),
                Norm[Norm.INSTANCE, spatial_dims](after),
                nn.LeakyReLU(0.01, inplace=True),
            ]
        self.from_neighbours = nn.Sequential(*layers)
        self.projection = Projection(channels, spatial_dims)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.from_neighbours(features))
        return projected


class ESCDRKD(ReverseDistillation):
    """ESC-DRKD: reverse distillation without a bottleneck, with skips through projections.

    In training the projections are given the features of scans with pasted pieces and the student's start those of the
    scans as they are; both are to give the latter's. Trained with `medad_plugins.losses.LocalCosineLoss`.

    Args:
        spatial_dims, in_channels, backbone, weights, combine, sigma, reduction, scale_weights: see
            `ReverseDistillation`. A ResNet's weights may lack layer4: it is then a fixed random stage.

    Shape:
        train: ``(B, 2 * in_channels, *spatial)``, scans with pasted pieces and the same without, to the pair that the
        loss takes, of five maps each.

    Reference:
        Ge et al., "Enhanced Skip Connection-based Direct Reverse Knowledge Distillation", Neurocomputing 651, 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        combine: str = "mean",
        sigma: float = 4.0,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
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
        # that of the finest scale would feed nothing
        self.middle = SkipProjection(self.teacher.channels[1], spatial_dims)
        self.coarse = SkipProjection(self.teacher.channels[2], spatial_dims)

    def projection_parameters(self) -> list[nn.Parameter]:
        """What learns with the projections' learning rate."""
        return [*self.middle.parameters(), *self.coarse.parameters()]

    def student_parameters(self) -> list[nn.Parameter]:
        """What learns with the student's learning rate."""
        return list(self.student.parameters())

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        skips = [self.coarse(taps[2]), self.middle(taps[1])]
        rebuilt: list[Tensor] = self.student(taps[3], [list(tap.shape[2:]) for tap in taps[:3]], skips)
        return rebuilt

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The student's three maps and the two projections, and the teacher's that they are to be."""
        changed, clean = image.chunk(2, 1)
        taps: list[Tensor] = self.teacher(torch.cat([changed, clean]))
        changed_taps, clean_taps = ([tap.chunk(2)[half] for tap in taps] for half in (0, 1))
        skips = [self.coarse(changed_taps[2]), self.middle(changed_taps[1])]
        sizes = [list(tap.shape[2:]) for tap in clean_taps[:3]]
        rebuilt: list[Tensor] = self.student(clean_taps[3], sizes, skips)
        return [*rebuilt, *skips], [*clean_taps[:3], clean_taps[2], clean_taps[1]]

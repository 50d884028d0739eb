"""RD4AD: reverse distillation from a one-class embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from medad_plugins.networks.families.distillation_parts import one_class_bottleneck
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation

__all__ = ["RD4AD"]


class RD4AD(ReverseDistillation):
    """RD4AD: the student is given a one-class embedding of the teacher's three scales.

    Args:
        spatial_dims, in_channels, backbone, weights, combine, sigma, reduction, scale_weights: see
            `ReverseDistillation`.

    Reference:
        Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022.
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
        )
        self.bottleneck: Any = one_class_bottleneck(self.teacher, backbone, spatial_dims)

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        rebuilt: list[Tensor] = self.student(self.bottleneck(taps), [list(tap.shape[2:]) for tap in taps])
        return rebuilt

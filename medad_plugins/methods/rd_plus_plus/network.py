"""Reverse distillation behind projections that take noise away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.projection import Projection
from medad_plugins.networks.families.distillation_parts import one_class_bottleneck
from medad_plugins.networks.families.reverse_distillation import ReverseDistillation

__all__ = ["RDPlusPlus"]


class RDPlusPlus(ReverseDistillation):
    """RD++: RD4AD with one projection for each of the teacher's scales before the bottleneck.

    Trained with `medad_plugins.methods.rd_plus_plus.RDPlusPlusLoss` on scans beside noisy copies of them, see
    `medad_plugins.synthesis.NoisyCopyd`.

    Args:
        spatial_dims, in_channels, backbone, weights, combine, sigma, reduction, scale_weights: see
            `ReverseDistillation`.

    Shape:
        train: ``(B, 2 * in_channels, *spatial)``, scans and their noisy copies, to the dictionary that the loss takes.

    Reference:
        Tien et al., "Revisiting Reverse Distillation for Anomaly Detection", CVPR 2023.
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
        self.projections = nn.ModuleList(Projection(width, spatial_dims) for width in self.teacher.channels)

    def projection_parameters(self) -> list[nn.Parameter]:
        """What learns with the projections' learning rate."""
        return list(self.projections.parameters())

    def student_parameters(self) -> list[nn.Parameter]:
        """What learns with the student's learning rate: the bottleneck and the student."""
        return [*self.bottleneck.parameters(), *self.student.parameters()]

    def project(self, taps: list[Tensor]) -> list[Tensor]:
        """The teacher's features through their projections, of the same shapes."""
        projected: list[Tensor] = []
        for index, projection in enumerate(self.projections):
            projected.append(projection(taps[index]))
        return projected

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        rebuilt: list[Tensor] = self.student(self.bottleneck(self.project(taps)), [list(t.shape[2:]) for t in taps])
        return rebuilt

    def training_output(self, image: Tensor) -> Any:
        """Features of scans and of their noisy copies: see `medad_plugins.methods.rd_plus_plus.RDPlusPlusLoss`."""
        # neither the frozen teacher nor the projections look at batch mates, so both halves go through them together
        taps = self.teacher(torch.cat(image.chunk(2, 1)))
        projected = self.project(taps)
        clean, noisy = ([tap.chunk(2)[half] for tap in taps] for half in (0, 1))
        seen = [tap.chunk(2)[0] for tap in projected]
        return {
            "clean": clean,
            "noisy": noisy,
            "projected": seen,
            "projected_noisy": [tap.chunk(2)[1] for tap in projected],
            "rebuilt": self.student(self.bottleneck(seen), [list(tap.shape[2:]) for tap in clean]),
        }

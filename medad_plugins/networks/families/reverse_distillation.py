"""Reverse distillation: a student that rebuilds a frozen teacher's features from less than the teacher saw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.families.distillation_parts import student_decoder, teacher_taps
from medad_plugins.scorers import CosineMapFusion

__all__ = ["ReverseDistillation"]


class ReverseDistillation(AnomalyNetwork):
    """Teacher, student and scoring that all reverse distillations share; they differ in what the student is given.

    A subclass writes `rebuild`. The teacher's three taps and the student's features are compared, in training by
    `medad_plugins.losses.GlobalCosineLoss`, for the map by one minus their cosine at every location.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a ResNet, the papers' is ``wide_resnet50_2``, or an EfficientNet-Lite, whose features have both signs:
            each scale's map is then 0..2.
        weights: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`; layer4 is not needed.
        combine: ``"sum"``, ``"mean"`` or ``"product"`` of the three scales' maps.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`; None is all
            alike, as in the papers.
        stages: 4 for a student that is given the teacher's map of stride 32 itself, and not an embedding.
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
        stages: int = 3,
    ) -> None:
        super().__init__(reduction)
        # its layers have other names in each kind of backbone
        self.teacher: Any = teacher_taps(backbone, spatial_dims, in_channels, weights, stages)
        self.student: Any = student_decoder(self.teacher, backbone, spatial_dims)
        self.fusion = CosineMapFusion(
            spatial_dims,
            self.pool,
            combine,
            on_image_grid=True,
            align_corners=True,
            sigma=sigma,
            scale_weights=scale_weights,
        )

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        """The student's features of strides 4, 8 and 16 from the teacher's ``(B, C_k, *spatial / stride_k)``."""
        raise TypeError(f"{type(self).__name__} does not say what its student is given.")

    def student_parameters(self) -> list[nn.Parameter]:
        """What learns: all but the teacher."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Student's and teacher's feature maps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16."""
        taps = self.teacher.remembered(image)
        return self.rebuild(taps), taps[:3]

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of both features, summed over three scales on the image grid and smoothed, 0..3."""
        taps = self.teacher(image)
        return self.fusion(self.rebuild(taps), taps[:3], image.shape[2:])

"""Student-teacher feature pyramid matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones.make_taps import make_learning_taps
from medad_plugins.networks.families.distillation_parts import teacher_taps
from medad_plugins.scorers import CosineMapFusion

__all__ = ["STFPM"]


class STFPM(AnomalyNetwork):
    """STFPM: a student of the teacher's architecture learns the frozen, pretrained teacher's features of normal scans.

    Trained with `medad_plugins.losses.LocalCosineLoss`, doubled. The student starts at random and has seen nothing but
    normal scans: where its features differ from the teacher's in angle at all three scales, the scan is abnormal.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: a ResNet, the paper's is ``resnet18``, or an EfficientNet-Lite.
        weights: of the teacher: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`; layer4 is
            not needed.
        reduction: image score, see `medad_plugins.scorers.MapPool`.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`; None is all
            alike, as in the paper.

    Reference:
        Wang et al., "Student-Teacher Feature Pyramid Matching for Anomaly Detection", BMVC 2021.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(reduction)
        # its layers have other names in each kind of backbone
        self.teacher: Any = teacher_taps(backbone, spatial_dims, in_channels, weights)
        self.student: Any = make_learning_taps(backbone, spatial_dims, in_channels, 3, "none", norm_momentum=0.1)
        self.fusion = CosineMapFusion(
            spatial_dims, self.pool, "product", keep_score="none", scale_weights=scale_weights
        )

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Student's and teacher's feature maps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16."""
        return self.student(image), self.teacher.remembered(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Product over three scales of one minus the cosine of both features, interpolated to the image, 0..1."""
        return self.fusion(self.student(image), self.teacher(image), image.shape[2:])

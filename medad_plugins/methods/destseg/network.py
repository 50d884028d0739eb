"""DeSTSeg: a denoising student, and a network that segments where it differs from its teacher."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks.aspp import SimpleASPP
from monai.networks.blocks.convolutions import Convolution, ResidualUnit
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.networks.backbones.make_taps import make_learning_taps
from medad_plugins.networks.blocks.mirrored_decoder import mirrored_decoder
from medad_plugins.networks.blocks.say_rare import say_rare
from medad_plugins.networks.blocks.upsample_to import UpsampleTo
from medad_plugins.networks.families.distillation_parts import teacher_taps
from medad_plugins.scorers import CosineMapFusion, MapToImage

__all__ = ["DeSTSeg"]

SCORES = ("segmentation", "distance")
DILATIONS = (1, 6, 12, 18)


class DenoisingStudent(nn.Module):
    """Encoder and decoder without skips, from random weights, that give feature maps like the teacher's.

    Shape:
        ``(B, C, *spatial)`` to a list of ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16.
    """

    def __init__(self, backbone: str, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        # its layers have other names in each kind of backbone
        self.encoder: Any = make_learning_taps(backbone, spatial_dims, in_channels, 4, "none", norm_momentum=0.1)
        self.decoder = mirrored_decoder(backbone, spatial_dims, self.encoder.channels, self.encoder.strides, 0.1)

    def forward(self, image: Tensor) -> list[Tensor]:
        taps: list[Tensor] = self.encoder(image)
        features: list[Tensor] = self.decoder(taps[3], [list(tap.shape[2:]) for tap in taps[:3]])
        return features


class AgreementSegmentation(nn.Module):
    """Two residual blocks, atrous pyramid pooling, and a logit at each place of the finest grid.

    It is given how far each channel agrees: the product, negated, of teacher's and student's features of unit length,
    whose sum over the channels is the cosine.

    Args:
        spatial_dims: 2 or 3.
        channels: of the feature maps.
        width: of its layers; the paper's is 256.

    Shape:
        two lists of ``(B, C_k, *grid_k)``, finest first, to ``(B, 1, *grid_1)``.
    """

    def __init__(self, spatial_dims: int, channels: list[int], width: int) -> None:
        super().__init__()
        self.enlarge = UpsampleTo(spatial_dims)
        layers: dict[str, Any] = {"act": "RELU", "norm": "BATCH", "bias": False}
        self.layers = nn.Sequential(
            ResidualUnit(spatial_dims, sum(channels), width, subunits=2, **layers),
            ResidualUnit(spatial_dims, width, width, subunits=2, **layers),
            SimpleASPP(spatial_dims, width, width, (1, 3, 3, 3), DILATIONS, norm_type="BATCH", acti_type="RELU"),
            Convolution(spatial_dims, len(DILATIONS) * width, width, **layers),
            Conv[Conv.CONV, spatial_dims](width, 1, 1),
        )
        say_rare(self.layers[-1])

    def forward(self, student: list[Tensor], teacher: list[Tensor]) -> Tensor:
        grid = list(teacher[0].shape[2:])
        parts: list[Tensor] = []
        for own, true in zip(student, teacher):
            agreement = functional.normalize(own.float(), dim=1) * functional.normalize(true.float(), dim=1)
            parts.append(self.enlarge(-agreement, grid))
        logits: Tensor = self.layers(torch.cat(parts, 1))
        return logits


class DeSTSeg(AnomalyNetwork):
    """DeSTSeg: a student gives the teacher's features of the normal scan when it is shown one with an anomaly.

    Trained in two phases, see `medad_plugins.methods.destseg.destseg_student` and `DeSTSegSegmentation`: first the
    student, then, with the student as it is, a network that finds the anomalies in how both differ.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        backbone: of teacher and student: a ResNet, the paper's is ``resnet18``, or an EfficientNet-Lite.
        weights: of the teacher: path, known name or ``"none"``, see `medad_plugins.networks.find_weights`; layer4 is
            not needed.
        width: of the segmentation network, see `AgreementSegmentation`.
        score: what the map is: ``"segmentation"``, or ``"distance"``, the product over the scales of one minus the
            cosine of student's and teacher's features.
        sigma: Gaussian smoothing of the map, in pixels of the image.
        reduction: image score, see `medad_plugins.scorers.MapPool`.

    Reference:
        Zhang et al., "DeSTSeg: Segmentation Guided Denoising Student-Teacher for Anomaly Detection", CVPR 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet18",
        weights: str = "imagenet",
        width: int = 256,
        score: str = "segmentation",
        sigma: float = 0.0,
        reduction: str | float = 0.0015,
    ) -> None:
        super().__init__(reduction)
        if score not in SCORES:
            raise InputError("there is no such score", where="score", expected=" or ".join(SCORES), found=score)
        self.by_distance = score == "distance"
        self.teacher: Any = teacher_taps(backbone, spatial_dims, in_channels, weights)
        self.student = DenoisingStudent(backbone, spatial_dims, in_channels)
        self.segmentation = AgreementSegmentation(spatial_dims, self.teacher.channels, width)
        self.to_image = MapToImage(spatial_dims, self.pool, sigma, keep_score="none")
        self.fusion = CosineMapFusion(spatial_dims, self.pool, "product", sigma=sigma, keep_score="none")

    def training_output(self, image: Tensor) -> Tensor:
        """Logits ``(B, 1, *spatial / 4)`` of the segmentation; only its own parameters get gradients."""
        with torch.no_grad():
            student, teacher = self.student(image), self.teacher(image)
        logits: Tensor = self.segmentation(student, teacher)
        return logits

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Probability that a place is abnormal, or the product of the scales' distances, both 0..1."""
        student, teacher = self.student(image), self.teacher(image)
        if self.by_distance:
            return self.fusion(student, teacher, image.shape[2:])
        logits = self.segmentation(student, teacher)
        return self.to_image(torch.sigmoid(logits.float()), image.shape[2:])

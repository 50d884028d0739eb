"""ReContrast: reverse distillation across a trained and a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medad_plugins.networks.blocks.init_convolutions import init_convolutions
from medad_plugins.networks.families.distillation_parts import one_class_bottleneck, student_decoder, teacher_taps
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.scorers import CosineMapFusion

__all__ = ["ReContrast"]


class OutputHeads(nn.ModuleList):
    """One 1x1 convolution for each of three decoded scales, finest first."""

    def __init__(self, channels: list[int], spatial_dims: int) -> None:
        conv = Conv[Conv.CONV, spatial_dims]
        super().__init__(conv(width, width, 1) for width in channels)
        init_convolutions(self, spatial_dims)


class ReContrast(FineTunedNetwork):
    """ReContrast: from the trained encoder the frozen one's features are rebuilt, and the other way round.

    Both encoders start as the same pretrained one. One bottleneck and one decoder serve both; each direction has output
    heads of its own. Trained with `HardMinedCosineLoss`. Where rebuilt and true features differ in
    angle, in either direction, the scan is abnormal.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, reduction: see `FineTunedNetwork`, of three stages;
            the paper's backbone is ``wide_resnet50_2``. EfficientNet-Lite is taken too.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image; the paper's is 4 of 256.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`; None is all
            alike, as in the paper.

    Reference:
        Guo et al., "ReContrast: Domain-Specific Anomaly Detection via Contrastive Reconstruction", NeurIPS 2023.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "wide_resnet50_2",
        weights: str = "imagenet",
        encoder_norm: str = "train",
        sigma: float = 4.0,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=3,
            encoder_norm=encoder_norm,
            norm_momentum=0.1,
            reduction=reduction,
            resnets_only=False,
        )
        # its layers have other names in each kind of backbone
        self.teacher: Any = teacher_taps(backbone, spatial_dims, in_channels)
        # without a file, too, both must start as one
        self.teacher.load_state_dict(self.encoder.state_dict())
        self.bottleneck: Any = one_class_bottleneck(self.teacher, backbone, spatial_dims)
        self.decoder: Any = student_decoder(self.teacher, backbone, spatial_dims)
        channels = self.teacher.channels
        self.teacher_heads = OutputHeads(channels, spatial_dims)
        self.encoder_heads = OutputHeads(channels, spatial_dims)
        self.fusion = CosineMapFusion(
            spatial_dims,
            self.pool,
            "sum",
            on_image_grid=True,
            align_corners=True,
            sigma=sigma,
            scale_weights=scale_weights,
        )

    def _features(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        trained, frozen = self.encoder(image), self.teacher(image)
        # as one batch, so that in training the norms of bottleneck and decoder see both together
        both = [torch.cat([own, other]) for own, other in zip(trained, frozen)]
        decoded = self.decoder(self.bottleneck(both), [list(tap.shape[2:]) for tap in trained])
        cases = image.shape[0]
        rebuilt: list[Tensor] = []
        for level, head in enumerate(self.teacher_heads):
            rebuilt.append(head(decoded[level][:cases]))
        for level, head in enumerate(self.encoder_heads):
            rebuilt.append(head(decoded[level][cases:]))
        return rebuilt, frozen + trained

    def training_output(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt and true maps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16: the teacher's, the encoder's.

        What is rebuilt of the teacher's was decoded from the encoder, and the other way round.
        """
        return self._features(image)

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of rebuilt and true features, six maps summed on the image grid and smoothed, 0..12."""
        rebuilt, true = self._features(image)
        return self.fusion(rebuilt, true, image.shape[2:])

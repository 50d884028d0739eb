"""Crossed distillation: from a trained encoder a frozen one's features are rebuilt, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medad_plugins.networks.families.distillation_parts import one_class_bottleneck, student_decoder, teacher_taps
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.scorers import CosineMapFusion

__all__ = ["CrossedDistillation"]


class CrossedDistillation(FineTunedNetwork):
    """Both encoders, the bottleneck and decoder that serve both directions, and the map.

    Both encoders start as the same pretrained one. Where rebuilt and true features differ in angle, in either
    direction, the scan is abnormal.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, reduction: see `FineTunedNetwork`, of three stages;
            the papers' backbone is ``wide_resnet50_2``. EfficientNet-Lite is taken too.
        sigma: Gaussian smoothing of the map before it is scored, in pixels of the image; the papers' is 4 of 256.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`; None is all
            alike, as in the papers.
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
        self.fusion = CosineMapFusion(
            spatial_dims,
            self.pool,
            "sum",
            on_image_grid=True,
            align_corners=True,
            sigma=sigma,
            scale_weights=scale_weights,
        )

    def put_out(self, decoded: list[Tensor]) -> list[Tensor]:
        """What becomes of the decoder's six maps, the teacher's first, before they are compared: nothing."""
        return decoded

    def crossed(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Rebuilt and true maps ``(B, C_k, *spatial / stride_k)`` of strides 4, 8 and 16: the teacher's, the encoder's.

        What is rebuilt of the teacher's was decoded from the encoder, and the other way round.
        """
        trained, frozen = self.encoder(image), self.teacher(image)
        # as one batch, so that in training the norms of bottleneck and decoder see both together
        both = [torch.cat([own, other]) for own, other in zip(trained, frozen)]
        decoded: list[Tensor] = self.decoder(self.bottleneck(both), [list(tap.shape[2:]) for tap in trained])
        cases = image.shape[0]
        parted = [maps[:cases] for maps in decoded] + [maps[cases:] for maps in decoded]
        return self.put_out(parted), frozen + trained

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of rebuilt and true features, six maps summed on the image grid and smoothed, 0..12."""
        rebuilt, true = self.crossed(image)
        return self.fusion(rebuilt, true, image.shape[2:])

"""Encoder-attention-two-decoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.mirrored_decoder import mirrored_decoder
from medad_plugins.networks.blocks.self_attention import GatedSelfAttention
from medad_plugins.networks.families.fine_tuned import FineTunedNetwork
from medad_plugins.scorers import CosineMapFusion

__all__ = ["EA2D"]


def turn(image: Tensor, view: int) -> Tensor:
    """A view of images or maps ``(B, C, *spatial)``: 0 as they are, 1 turned by 180 degrees; its own inverse.

    Volumes are turned about their last axis, so that their slices are turned as images are.
    """
    return image.flip([2, 3]) if view == 1 else image


class AttendedDecoder(nn.Module):
    """The decoder of encoder-decoder contrast, with skips from the encoder that pass a self-attention.

    What is decoded at a scale never sees that scale's own features, only deeper ones.

    Shape:
        four stages ``(B, C_k, *spatial / stride_k)``, finest first, to the three finer ones decoded.
    """

    def __init__(
        self,
        backbone: str,
        spatial_dims: int,
        channels: Sequence[int],
        strides: Sequence[int],
        norm_momentum: float,
        attention_levels: int,
    ) -> None:
        super().__init__()
        self.decoder = mirrored_decoder(backbone, spatial_dims, channels, strides, norm_momentum)
        # deepest first: stride 16, then stride 8
        self.attentions = nn.ModuleList(
            GatedSelfAttention(channels[2 - level], spatial_dims) for level in range(attention_levels)
        )

    def forward(self, encoded: list[Tensor]) -> list[Tensor]:
        skips: list[Tensor] = []
        for level, attention in enumerate(self.attentions):
            skips.append(attention(encoded[2 - level]))
        decoded: list[Tensor] = self.decoder(encoded[3], [list(tap.shape[2:]) for tap in encoded[:3]], skips)
        return decoded


class EA2D(FineTunedNetwork):
    """EA2D: encoder-decoder contrast of a scan and of the scan turned by 180 degrees, one encoder and two decoders.

    Trained with `ViewConsistencyLoss`: each decoder rebuilds the encoder's features of its view,
    and the encoder's deepest features of the two views are drawn together. The gradient stops at the three taps as
    targets; it goes through them as skips.

    Args:
        spatial_dims, in_channels, backbone, weights, encoder_norm, reduction: see `FineTunedNetwork`, of four stages;
            the paper's backbone is ``resnet50``. EfficientNet-Lite is taken too, as `EDC` takes it; the map's values
            are then 0..2.
        norm_momentum: of the decoders' running statistics too; the paper's is 0.01. Those of the encoder are updated
            twice at an iteration, once for each view.
        views: 2, or 1 for the scan as it is alone.
        scale_weights: how much the scales of strides 4, 8 and 16 count in the map, see `CosineMapFusion`; None is all
            alike, as in the paper.
        attention_levels: how many taps have an attended skip: 2 (strides 16 and 8), 1 (stride 16) or 0.

    Raises:
        ValueError: for other views or levels.

    Reference:
        Tang et al., "EA2D", IEEE TMI 44(8), 2025.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        backbone: str = "resnet50",
        weights: str = "imagenet",
        encoder_norm: str = "train",
        norm_momentum: float = 0.01,
        views: int = 2,
        attention_levels: int = 2,
        reduction: str | float = "max",
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        if views not in (1, 2) or attention_levels not in (0, 1, 2):
            raise ValueError(f"views must be 1 or 2 and attention_levels 0 to 2, got {views} and {attention_levels}.")
        super().__init__(
            spatial_dims,
            in_channels,
            backbone,
            weights,
            stages=4,
            encoder_norm=encoder_norm,
            norm_momentum=norm_momentum,
            reduction=reduction,
            resnets_only=False,
        )
        channels, strides = self.encoder.channels, self.encoder.strides
        self.decoders = nn.ModuleList(
            AttendedDecoder(backbone, spatial_dims, channels, strides, norm_momentum, attention_levels)
            for _ in range(views)
        )
        self.fusion = CosineMapFusion(spatial_dims, self.pool, interpolation="nearest", scale_weights=scale_weights)

    def training_output(self, image: Tensor) -> tuple[list[tuple[list[Tensor], list[Tensor]]], list[Tensor]]:
        """For each view, decoded and encoded maps of strides 4, 8 and 16 and the deepest features' means ``(B, C)``."""
        pairs, means = [], []
        for view, decoder in enumerate(self.decoders):
            encoded = self.encoder(turn(image, view))
            pairs.append((decoder(encoded), encoded[:3]))
            means.append(encoded[3].flatten(2).float().mean(2))
        return pairs, means

    def anomaly_map(self, image: Tensor) -> Tensor:
        """One minus the cosine of decoded and encoded features, averaged over three scales and the views, 0..1 (0..2).

        Its pooled value is the mean of the views' pooled values, as in the paper, and so the map is scaled.
        """
        maps: list[Tensor] = []
        scores: list[Tensor] = []
        for view, decoder in enumerate(self.decoders):
            encoded = self.encoder(turn(image, view))
            grid_map = self.fusion.fuse(decoder(encoded), encoded[:3], list(encoded[0].shape[2:]))
            maps.append(turn(grid_map, view))
            scores.append(self.pool(grid_map))
        both = torch.stack(maps).mean(0)
        return self.fusion.to_image(self.pool.scaled_to(torch.stack(scores).mean(0), both), image.shape[2:])

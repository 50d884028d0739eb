"""The decoder that mirrors an encoder, by the kind of its backbone."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.networks.backbones import BACKBONES
from medad_plugins.networks.blocks.residual_decoder import ResidualDecoder
from medad_plugins.networks.blocks.tap_decoder import TapDecoder

__all__ = ["mirrored_decoder"]


def mirrored_decoder(
    backbone: str, spatial_dims: int, channels: Sequence[int], strides: Sequence[int], norm_momentum: float
) -> ResidualDecoder | TapDecoder:
    """A decoder from the deepest of an encoder's taps to the finer ones: of a ResNet block by block, else by its taps.

    Args:
        backbone: name of the encoder's architecture.
        spatial_dims: 2 or 3.
        channels, strides: of the encoder's taps, finest first; of four stages where it is a ResNet.
        norm_momentum: of the batch norms' running statistics.
    """
    if backbone in BACKBONES:
        return ResidualDecoder(backbone, spatial_dims, norm_momentum)
    return TapDecoder(spatial_dims, channels, strides, norm_momentum=norm_momentum)

"""What reverse distillations make for the backbone that they rebuild: teacher, bottleneck and student."""

from __future__ import annotations

from torch import nn

from medad_plugins.networks.backbones import BACKBONES, FeatureTaps, ResNetTaps
from medad_plugins.networks.backbones.efficientnet_lite import EFFICIENTNETS, EfficientNetLiteTaps, last_blocks
from medad_plugins.networks.backbones.make_taps import require_convolutions
from medad_plugins.networks.blocks.one_class_bottleneck import OneClassBottleneck
from medad_plugins.networks.blocks.residual_decoder import ResidualDecoder
from medad_plugins.networks.blocks.tap_bottleneck import TapBottleneck
from medad_plugins.networks.blocks.tap_decoder import TapDecoder

__all__ = ["one_class_bottleneck", "student_decoder", "teacher_taps"]


def teacher_taps(
    backbone: str, spatial_dims: int, in_channels: int, weights: str = "none", stages: int = 3
) -> FeatureTaps:
    """A frozen teacher's feature maps of strides 4, 8 and 16.

    Args:
        backbone: a ResNet or an EfficientNet-Lite.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        weights: path, known name, ``"auto"`` or ``"none"``, see `medad_plugins.networks.find_weights`.
        stages: 4 gives the map of stride 32 as well. A ResNet's file may lack its ``layer4``, which is then of random
            weights that nothing changes.

    Raises:
        InputError: it is neither, or there is no such file of weights.
    """
    require_convolutions(backbone)
    if backbone in EFFICIENTNETS:
        return EfficientNetLiteTaps(backbone, spatial_dims, in_channels, last_blocks(backbone)[:stages], weights)
    optional = ("layer4",) if stages == 4 else ()
    return ResNetTaps(
        backbone,
        spatial_dims,
        in_channels,
        stages=stages,
        weights=weights,
        optional_stages=optional,
        frozen=True,
    )


def one_class_bottleneck(teacher: FeatureTaps, backbone: str, spatial_dims: int) -> nn.Module:
    """What compresses the teacher's three feature maps to one embedding of stride 32."""
    if backbone in BACKBONES:
        return OneClassBottleneck(backbone, spatial_dims)
    return TapBottleneck(spatial_dims, teacher.channels, teacher.strides, 2 * teacher.channels[-1])


def student_decoder(teacher: FeatureTaps, backbone: str, spatial_dims: int) -> nn.Module:
    """What rebuilds the teacher's feature maps from the embedding of `one_class_bottleneck`, or from its fourth map."""
    if backbone in BACKBONES:
        # not mirrored: the encoder's depths of layer1 to layer3 are the student's from its deepest stage on
        return ResidualDecoder(backbone, spatial_dims, upsampling="transposed", blocks=BACKBONES[backbone][1][:3])
    channels, strides = teacher.channels, teacher.strides
    if len(channels) == 4:
        return TapDecoder(spatial_dims, channels, strides)
    return TapDecoder(spatial_dims, [*channels, 2 * channels[-1]], [*strides, 2 * strides[-1]])

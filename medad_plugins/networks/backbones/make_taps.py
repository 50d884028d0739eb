"""Feature maps of any known backbone, by its name."""

from __future__ import annotations

from collections.abc import Sequence

from medad_plugins.errors import InputError
from medad_plugins.networks.backbones.efficientnet_lite import (
    EFFICIENTNETS,
    EfficientNetLiteTaps,
    last_blocks,
    usual_blocks,
)
from medad_plugins.networks.backbones.feature_taps import FeatureTaps
from medad_plugins.networks.backbones.resnet import BACKBONES, ResNetTaps
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS, usual_block
from medad_plugins.networks.backbones.vision_transformer import VisionTransformerTaps

__all__ = ["TAPS", "make_learning_taps", "make_taps", "usual_layers"]

DEFAULT_STAGES = (2, 3)

# every backbone, and what makes its taps
TAPS: dict[str, type[ResNetTaps | EfficientNetLiteTaps | VisionTransformerTaps]] = {
    **dict.fromkeys(BACKBONES, ResNetTaps),
    **dict.fromkeys(EFFICIENTNETS, EfficientNetLiteTaps),
    **dict.fromkeys(TRANSFORMERS, VisionTransformerTaps),
}


def require_backbone(backbone: str) -> None:
    """Refuse a name that no backbone has.

    Raises:
        InputError: there is no such backbone.
    """
    if backbone not in TAPS:
        expected = f"one of {', '.join(TAPS)}"
        raise InputError("there is no such backbone", where=backbone, expected=expected, todo="give another --backbone")


def require_convolutions(backbone: str) -> None:
    """Refuse a backbone whose feature maps have no rising strides, for methods that mirror or train one of these.

    Raises:
        InputError: it is neither a ResNet nor an EfficientNet-Lite.
    """
    if backbone not in BACKBONES and backbone not in EFFICIENTNETS:
        raise InputError(
            "this method mirrors or trains a backbone of convolutions",
            where="backbone",
            expected=f"one of {', '.join([*BACKBONES, *EFFICIENTNETS])}",
            found=backbone,
            todo="give another --backbone; docs/backbones.md tells which bundle takes which",
        )


def usual_layers(backbone: str, stages: Sequence[int] = DEFAULT_STAGES) -> list[int]:
    """The layers that a method taps by default.

    Args:
        backbone: a key of `TAPS`.
        stages: those that it taps of a ResNet.

    Raises:
        InputError: there is no such backbone.
    """
    require_backbone(backbone)
    if TAPS[backbone] is VisionTransformerTaps:
        return [usual_block(backbone)]
    return usual_blocks(backbone) if TAPS[backbone] is EfficientNetLiteTaps else list(stages)


def make_taps(
    backbone: str,
    spatial_dims: int = 2,
    in_channels: int = 1,
    layers: Sequence[int] | None = None,
    weights: str = "none",
    average: bool = False,
    recentre: bool = False,
) -> FeatureTaps:
    """A frozen backbone that gives the named feature maps of a scan.

    Args:
        backbone: a key of `TAPS`: a ResNet, an EfficientNet-Lite or a vision transformer.
        spatial_dims: 2 or 3; a transformer takes 2 only.
        in_channels: channels of the scan.
        layers: which feature maps, finest first: stages of a ResNet, from 1; blocks of any other, from 0; None takes
            `usual_layers`.
        weights: path, known name, ``"auto"`` or ``"none"``, see `medad_plugins.networks.find_weights`.
        average: one map, the mean of those of all layers; of a transformer, whose maps are alike.
        recentre: subtract the class token from the others; of a transformer.

    Raises:
        InputError: there is no such backbone, layer, or file of weights, or it has not what is averaged or subtracted.

    Example:
        >>> taps = make_taps("resnet18", layers=[2, 3])
        >>> [tuple(tap.shape) for tap in taps(torch.rand(1, 1, 64, 64))]
        [(1, 128, 8, 8), (1, 256, 4, 4)]
    """
    require_backbone(backbone)
    layers = usual_layers(backbone) if layers is None else layers
    if TAPS[backbone] is VisionTransformerTaps:
        return VisionTransformerTaps(
            backbone, spatial_dims, in_channels, layers, weights, average=average, recentre=recentre
        )
    if average:
        expected = "a vision transformer, whose blocks' maps have one grid and one width"
        raise InputError("the maps of this backbone cannot be averaged", where=backbone, expected=expected)
    if recentre:
        raise InputError(
            "tokens are recentred by the class token, and this backbone has none",
            where=backbone,
            expected="a vision transformer",
            todo="leave out --recentre or give another --backbone",
        )
    if TAPS[backbone] is EfficientNetLiteTaps:
        return EfficientNetLiteTaps(backbone, spatial_dims, in_channels, layers, weights)
    return ResNetTaps(backbone, spatial_dims, in_channels, weights=weights, frozen=True, layers=layers)


def make_learning_taps(
    backbone: str,
    spatial_dims: int,
    in_channels: int,
    stages: int,
    weights: str,
    norm_momentum: float,
) -> FeatureTaps:
    """A backbone that goes on learning and gives feature maps of strides 4, 8, 16 and, of four stages, 32.

    Args:
        backbone: a ResNet or an EfficientNet-Lite.
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        stages: 3 or 4; a ResNet's file may lack ``layer4`` of four.
        weights: path, known name, ``"auto"`` or ``"none"``, see `medad_plugins.networks.find_weights`.
        norm_momentum: momentum of the batch norms' running statistics.

    Raises:
        InputError: it is neither, or there is no such file of weights.
    """
    if backbone in EFFICIENTNETS:
        layers = last_blocks(backbone)[:stages]
        return EfficientNetLiteTaps(
            backbone, spatial_dims, in_channels, layers, weights, frozen=False, norm_momentum=norm_momentum
        )
    require_convolutions(backbone)
    return ResNetTaps(
        backbone,
        spatial_dims,
        in_channels,
        stages=stages,
        weights=weights,
        optional_stages=("layer4",) if stages == 4 else (),
        norm_momentum=norm_momentum,
    )

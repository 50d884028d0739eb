"""Backbones whose feature maps methods take, and where their pretrained weights are found."""

from __future__ import annotations

from medad_plugins.networks.backbones.efficientnet_lite import EFFICIENTNETS, EfficientNetLiteTaps
from medad_plugins.networks.backbones.feature_taps import FeatureTaps
from medad_plugins.networks.backbones.make_taps import TAPS, make_learning_taps, make_taps, usual_layers
from medad_plugins.networks.backbones.resnet import (
    BACKBONES,
    STAGE_PLANES,
    ResNetTaps,
    inner_width,
    require_resnet,
    require_stages,
    tap_channels,
)
from medad_plugins.networks.backbones.scan_adapter import ScanToBackbone
from medad_plugins.networks.backbones.transformer_shape import TRANSFORMERS
from medad_plugins.networks.backbones.vision_transformer import VisionTransformerTaps

__all__ = [
    "BACKBONES",
    "EFFICIENTNETS",
    "STAGE_PLANES",
    "TAPS",
    "TRANSFORMERS",
    "EfficientNetLiteTaps",
    "FeatureTaps",
    "ResNetTaps",
    "ScanToBackbone",
    "VisionTransformerTaps",
    "inner_width",
    "make_learning_taps",
    "make_taps",
    "require_resnet",
    "require_stages",
    "tap_channels",
    "usual_layers",
]

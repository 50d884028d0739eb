"""Backbones whose feature maps methods take, and where their pretrained weights are found."""

from __future__ import annotations

from medad_plugins.networks.backbones.make_taps import FeatureTaps, make_taps
from medad_plugins.networks.backbones.resnet import (
    BACKBONES,
    STAGE_PLANES,
    ResNetTaps,
    ScanToBackbone,
    inner_width,
    require_stages,
    tap_channels,
)

__all__ = [
    "BACKBONES",
    "STAGE_PLANES",
    "FeatureTaps",
    "ResNetTaps",
    "ScanToBackbone",
    "inner_width",
    "make_taps",
    "require_stages",
    "tap_channels",
]

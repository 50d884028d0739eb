"""Inferers."""

from __future__ import annotations

from medad_plugins.inferers.precision import PrecisionInferer, fast_bfloat16, said_precision
from medad_plugins.inferers.slices import SlicewiseInferer, ThreeAxesInferer, scan_inferer
from medad_plugins.inferers.tiles import TileInferer

__all__ = [
    "PrecisionInferer",
    "SlicewiseInferer",
    "ThreeAxesInferer",
    "TileInferer",
    "fast_bfloat16",
    "said_precision",
    "scan_inferer",
]

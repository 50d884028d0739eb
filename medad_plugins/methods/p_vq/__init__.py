"""Patch-wise vector quantisation."""

from __future__ import annotations

from medad_plugins.methods.p_vq.network import PVQ
from medad_plugins.methods.p_vq.quantizer import PatchQuantizer

__all__ = [
    "PVQ",
    "PatchQuantizer",
]

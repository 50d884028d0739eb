"""GLASS: anomalous features by gradient ascent, and synthetic anomalies in the image."""

from __future__ import annotations

from medad_plugins.methods.glass.loss import GlassLoss
from medad_plugins.methods.glass.network import GLASS, GlassLogits

__all__ = [
    "GLASS",
    "GlassLogits",
    "GlassLoss",
]

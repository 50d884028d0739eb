"""Encoder-attention-two-decoders."""

from __future__ import annotations

from medad_plugins.methods.ea2d.loss import ViewConsistencyLoss
from medad_plugins.methods.ea2d.network import EA2D

__all__ = [
    "EA2D",
    "ViewConsistencyLoss",
]

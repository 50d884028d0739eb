"""UniNet: crossed distillation of selected features, by contrast."""

from __future__ import annotations

from medad_plugins.methods.uninet.loss import PlaceContrastLoss
from medad_plugins.methods.uninet.network import UniNet

__all__ = [
    "PlaceContrastLoss",
    "UniNet",
]

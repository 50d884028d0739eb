"""ReContrast: reverse distillation across a trained and a frozen encoder."""

from __future__ import annotations

from medad_plugins.methods.recontrast.loss import HardMinedCosineLoss
from medad_plugins.methods.recontrast.network import ReContrast

__all__ = [
    "HardMinedCosineLoss",
    "ReContrast",
]

"""Reverse distillation behind projections that take noise away."""

from __future__ import annotations

from medad_plugins.methods.rd_plus_plus.loss import RDPlusPlusLoss
from medad_plugins.methods.rd_plus_plus.network import RDPlusPlus

__all__ = [
    "RDPlusPlus",
    "RDPlusPlusLoss",
]

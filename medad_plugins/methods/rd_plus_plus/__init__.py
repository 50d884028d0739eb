"""Reverse distillation behind projections that take noise away."""

from __future__ import annotations

from medad_plugins.methods.rd_plus_plus.loss import RDPlusPlusLoss
from medad_plugins.methods.rd_plus_plus.network import RDPlusPlus
from medad_plugins.methods.rd_plus_plus.projection import Projection

__all__ = [
    "Projection",
    "RDPlusPlus",
    "RDPlusPlusLoss",
]

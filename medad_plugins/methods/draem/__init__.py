"""DRAEM: a network that repairs scans and one that says where it did."""

from __future__ import annotations

from medad_plugins.methods.draem.loss import DRAEMLoss
from medad_plugins.methods.draem.network import DRAEM

__all__ = [
    "DRAEM",
    "DRAEMLoss",
]

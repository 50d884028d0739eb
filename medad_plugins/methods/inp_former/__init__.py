"""INP-Former: tokens of a frozen transformer, rebuilt from what is normal in the scan itself."""

from __future__ import annotations

from medad_plugins.methods.inp_former.loss import PrototypeLoss
from medad_plugins.methods.inp_former.network import INPFormer

__all__ = [
    "INPFormer",
    "PrototypeLoss",
]

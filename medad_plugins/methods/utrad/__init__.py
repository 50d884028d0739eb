"""UTRAD, a transformer in the shape of a U."""

from __future__ import annotations

from medad_plugins.methods.utrad.network import UTRAD, BlockMeans, error_scale
from medad_plugins.methods.utrad.terms import UTRADLoss
from medad_plugins.methods.utrad.u_transformer import UTransformer, into_blocks, level_blocks, out_of_blocks

__all__ = [
    "UTRAD",
    "BlockMeans",
    "UTRADLoss",
    "UTransformer",
    "error_scale",
    "into_blocks",
    "level_blocks",
    "out_of_blocks",
]

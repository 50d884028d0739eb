"""Encoders that learn from unlabelled scans: SimCLR, MoCo, BYOL, SimSiam, Deep InfoMax and CPC."""

from __future__ import annotations

from medad_plugins.methods.pretrain.momentum_copy import MomentumCopy
from medad_plugins.methods.pretrain.network import OBJECTIVES, Pretrain, pretrain_terms
from medad_plugins.methods.pretrain.objectives import BYOL, MoCo, SimCLR, SimSiam
from medad_plugins.methods.pretrain.part_objectives import CPC, DIM, overlapping_patches

__all__ = [
    "BYOL",
    "CPC",
    "DIM",
    "OBJECTIVES",
    "MoCo",
    "MomentumCopy",
    "Pretrain",
    "SimCLR",
    "SimSiam",
    "overlapping_patches",
    "pretrain_terms",
]

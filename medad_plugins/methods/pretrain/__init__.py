"""Encoders that learn from unlabelled scans: SimCLR, MoCo, BYOL, SimSiam, Deep InfoMax, CPC, DROC and CCD."""

from __future__ import annotations

from medad_plugins.methods.pretrain.enlarged_objectives import CCD, DROC, exchanged_halves
from medad_plugins.methods.pretrain.momentum_copy import MomentumCopy
from medad_plugins.methods.pretrain.network import OBJECTIVES, Pretrain, pretrain_terms
from medad_plugins.methods.pretrain.objectives import BYOL, MoCo, SimCLR, SimSiam
from medad_plugins.methods.pretrain.part_objectives import CPC, DIM, overlapping_patches

__all__ = [
    "BYOL",
    "CCD",
    "CPC",
    "DIM",
    "DROC",
    "OBJECTIVES",
    "MoCo",
    "MomentumCopy",
    "Pretrain",
    "SimCLR",
    "SimSiam",
    "exchanged_halves",
    "overlapping_patches",
    "pretrain_terms",
]

"""Losses."""

from __future__ import annotations

from medad_plugins.losses.flow_reconstruction import FlowReconstructionLoss, bits_per_dimension
from medad_plugins.losses.global_cosine import GlobalCosineLoss
from medad_plugins.losses.hard_mining import HardMinedCosineLoss
from medad_plugins.losses.local_cosine import LocalCosineLoss
from medad_plugins.losses.margin import TwoSidedMarginLoss
from medad_plugins.losses.rd_plus_plus import RDPlusPlusLoss
from medad_plugins.losses.residual import ResidualLoss
from medad_plugins.losses.sinkhorn import sinkhorn_divergence
from medad_plugins.losses.view_consistency import ViewConsistencyLoss

__all__ = [
    "FlowReconstructionLoss",
    "GlobalCosineLoss",
    "HardMinedCosineLoss",
    "LocalCosineLoss",
    "RDPlusPlusLoss",
    "ResidualLoss",
    "TwoSidedMarginLoss",
    "ViewConsistencyLoss",
    "bits_per_dimension",
    "sinkhorn_divergence",
]

"""AE-FLOW: a normalizing flow between a frozen encoder and a decoder."""

from __future__ import annotations

from medad_plugins.methods.ae_flow.loss import FlowReconstructionLoss
from medad_plugins.methods.ae_flow.network import AEFlow

__all__ = [
    "AEFlow",
    "FlowReconstructionLoss",
]

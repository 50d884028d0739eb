"""Hetero-AE, a convolutional encoder and a decoder that is half transformer."""

from __future__ import annotations

from medad_plugins.methods.hetero_ae.hybrid import HybridBlock, HybridDecoder, PatchAttention
from medad_plugins.methods.hetero_ae.network import HeteroAE
from medad_plugins.methods.hetero_ae.terms import FeatureSimilarityLoss

__all__ = ["FeatureSimilarityLoss", "HeteroAE", "HybridBlock", "HybridDecoder", "PatchAttention"]

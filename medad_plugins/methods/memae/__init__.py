"""Memory-augmented autoencoder."""

from __future__ import annotations

from medad_plugins.methods.memae.network import MemAE
from medad_plugins.methods.memae.terms import memory_terms

__all__ = [
    "MemAE",
    "memory_terms",
]

"""Variational autoencoder, with the scores and maps that were proposed for it."""

from __future__ import annotations

from medad_plugins.methods.vae.network import VAE
from medad_plugins.methods.vae.terms import VariationalTerms

__all__ = [
    "VAE",
    "VariationalTerms",
]

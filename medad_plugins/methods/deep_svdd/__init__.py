"""Deep support vector data description."""

from __future__ import annotations

from medad_plugins.methods.deep_svdd.network import DeepSVDD
from medad_plugins.methods.deep_svdd.terms import DeepSVDDTerms, autoencoder_terms

__all__ = [
    "DeepSVDD",
    "DeepSVDDTerms",
    "autoencoder_terms",
]

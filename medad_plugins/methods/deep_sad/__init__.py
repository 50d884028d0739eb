"""Deep semi-supervised anomaly detection."""

from __future__ import annotations

from medad_plugins.methods.deep_sad.network import DeepSAD
from medad_plugins.methods.deep_sad.terms import DeepSADTerms

__all__ = [
    "DeepSAD",
    "DeepSADTerms",
]

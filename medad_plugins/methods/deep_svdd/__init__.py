"""Deep support vector data description."""

from __future__ import annotations

from medad_plugins.methods.deep_svdd.network import DeepSVDD
from medad_plugins.methods.deep_svdd.terms import DeepSVDDTerms

__all__ = [
    "DeepSVDD",
    "DeepSVDDTerms",
]

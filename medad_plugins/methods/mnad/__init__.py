"""Memory-guided normality: a memory of prototypes that normal scans write, and that reconstructions read."""

from __future__ import annotations

from medad_plugins.methods.mnad.network import MNAD
from medad_plugins.methods.mnad.terms import prototype_terms

__all__ = ["MNAD", "prototype_terms"]

"""After SALAD: an autoencoder of damaged scans whose latents have a centre and outlive a second coding."""

from __future__ import annotations

from medad_plugins.methods.salad.network import SALAD
from medad_plugins.methods.salad.terms import SALADTerms

__all__ = [
    "SALAD",
    "SALADTerms",
]

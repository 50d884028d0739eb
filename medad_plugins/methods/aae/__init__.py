"""Adversarial autoencoder: latents that a critic cannot distinguish from draws of a normal distribution."""

from __future__ import annotations

from medad_plugins.methods.aae.critic import LatentCritic
from medad_plugins.methods.aae.network import AAE
from medad_plugins.methods.aae.terms import AAETerms

__all__ = [
    "AAE",
    "AAETerms",
    "LatentCritic",
]

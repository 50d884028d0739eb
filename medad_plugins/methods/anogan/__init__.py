"""AnoGAN: a GAN of normal scans, and for every scan a search for what of it comes nearest."""

from __future__ import annotations

from medad_plugins.methods.anogan.network import AnoGAN
from medad_plugins.methods.anogan.terms import anogan_discriminator, anogan_generator

__all__ = [
    "AnoGAN",
    "anogan_discriminator",
    "anogan_generator",
]

"""f-AnoGAN: a Wasserstein GAN of normal scans and an encoder into its latent space."""

from __future__ import annotations

from medad_plugins.methods.f_anogan.network import FAnoGAN
from medad_plugins.methods.f_anogan.terms import FAnoGANEncoderTerms, f_anogan_critic, f_anogan_generator

__all__ = [
    "FAnoGAN",
    "FAnoGANEncoderTerms",
    "f_anogan_critic",
    "f_anogan_generator",
]

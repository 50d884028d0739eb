"""Denoising diffusion: a scan is noised in part and cleaned again, and what does not come back is abnormal."""

from __future__ import annotations

from medad_plugins.methods.ddpm.network import DDPM
from medad_plugins.methods.ddpm.terms import DenoisingTerms

__all__ = [
    "DDPM",
    "DenoisingTerms",
]

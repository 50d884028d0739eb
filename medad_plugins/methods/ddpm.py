"""DDPM: denoising diffusion; a scan is noised in part and cleaned again, and what does not come back is abnormal."""

from __future__ import annotations

from medad_plugins.diffusion import PartialDiffusion

__all__ = ["DDPM"]


class DDPM(PartialDiffusion):
    """DDPM: white noise, and a chain of small steps back. Arguments: see `PartialDiffusion`.

    Reference:
        Ho et al., "Denoising diffusion probabilistic models", NeurIPS 2020.
    """

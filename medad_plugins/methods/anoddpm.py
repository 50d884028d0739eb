"""AnoDDPM: partial diffusion with simplex noise, which takes off what is as large as a lesion."""

from __future__ import annotations

from medad_plugins.diffusion import PartialDiffusion

__all__ = ["AnoDDPM"]


class AnoDDPM(PartialDiffusion):
    """AnoDDPM: `PartialDiffusion` with simplex noise in training, at the level and in every step back.

    White noise leaves what is large in a scan nearly as visible as it was; six octaves of simplex noise do not.
    Arguments: see `PartialDiffusion`.

    Reference:
        Wyatt et al., "AnoDDPM: Anomaly detection with denoising diffusion probabilistic models using simplex noise",
        CVPR workshops 2022.
    """

"""pDDPM: partial diffusion of one box of the scan at a time, with the others to look at."""

from __future__ import annotations

from medad_plugins.diffusion import PartialDiffusion

__all__ = ["PDDPM"]


class PDDPM(PartialDiffusion):
    """pDDPM: `PartialDiffusion` whose noise lies in one box of a grid at a time, cleaned in one step.

    What is around a box tells the network what should be in it. Arguments: see `PartialDiffusion`.

    Reference:
        Behrendt et al., "Patched diffusion models for unsupervised anomaly detection in brain MRI", MIDL 2023.
    """

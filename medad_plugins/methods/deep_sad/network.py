"""Deep semi-supervised anomaly detection."""

from __future__ import annotations

from medad_plugins.networks.families.one_centre import OneCentre

__all__ = ["DeepSAD"]


class DeepSAD(OneCentre):
    """Deep SAD: Deep SVDD that also learns from a few labelled anomalies, which it keeps away from the centre.

    What is kept is what `OneCentre` keeps: the labels change the training alone, by
    `medad_plugins.methods.deep_sad.DeepSADTerms`. The score is the squared distance from the centre.

    Reference:
        Ruff et al., "Deep semi-supervised anomaly detection", ICLR 2020.
    """

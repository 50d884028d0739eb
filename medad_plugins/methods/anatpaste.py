"""AnatPaste: CutPaste inside the organ."""

from __future__ import annotations

from medad_plugins.networks.families.pretext_classifier import PretextClassifier

__all__ = ["AnatPaste"]


class AnatPaste(PretextClassifier):
    """AnatPaste: features that separate normal scans from scans with a piece of the organ pasted elsewhere inside it.

    Its parts: the synthetic anomalies are `medad_plugins.synthesis.published.anatpaste`, a piece with a soft edge,
    within the organ that `medad_plugins.synthesis.find_organ` finds; the network is `PretextClassifier` with two
    classes; the loss is `torch.nn.CrossEntropyLoss`; then a Gaussian is fitted to the features of normal scans, and the
    Mahalanobis distance is the score. Arguments: see `PretextClassifier`.

    Reference:
        Sato et al., "Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", iScience 2023.
    """

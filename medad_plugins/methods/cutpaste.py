"""CutPaste: a classifier of pasted patches, and a Gaussian of its features of normal scans."""

from __future__ import annotations

from medad_plugins.networks.families.pretext_classifier import PretextClassifier

__all__ = ["CutPaste"]


class CutPaste(PretextClassifier):
    """CutPaste: features that separate normal scans from scans with a piece of themselves pasted elsewhere.

    Its parts: the synthetic anomalies are `medad_plugins.synthesis.published.cutpaste`, of the kinds ``"box"`` and
    ``"scar"``, one class each; the network is `PretextClassifier` with two hidden layers in the head; the loss is
    `torch.nn.CrossEntropyLoss` of the classes; then a Gaussian is fitted to the features of normal scans, and the
    Mahalanobis distance is the score. Arguments: see `PretextClassifier`.

    Reference:
        Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021.
    """

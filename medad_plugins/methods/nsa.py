"""NSA: a network that predicts natural synthetic anomalies."""

from __future__ import annotations

from medad_plugins.networks.families.pixel_predictor import PixelPredictor

__all__ = ["NSA"]


class NSA(PixelPredictor):
    """NSA: for each pixel, how visible the change is that a piece of another scan made there.

    Its parts: the synthetic anomalies are `medad_plugins.synthesis.published.nsa`, scaled pieces of a second scan put
    in by Poisson blending and labelled by a logistic function of the change; the network is `PixelPredictor` with
    ``"resnet18"``, which is `ResidualCoder`; the loss is `torch.nn.BCEWithLogitsLoss` of the logits and that label.
    Arguments: see `PixelPredictor`.

    Reference:
        Schlueter et al., "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization", ECCV
        2022.
    """

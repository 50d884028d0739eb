"""FPI: a network that predicts by which share each pixel comes from another scan."""

from __future__ import annotations

from medad_plugins.networks.families.pixel_predictor import PixelPredictor

__all__ = ["FPI"]


class FPI(PixelPredictor):
    """FPI: for each pixel, the share by which a patch of another scan is interpolated into this one.

    Its parts: the synthetic anomalies are `medad_plugins.synthesis.published.fpi`, a cuboid of a second scan mixed in
    at the same place, labelled with the mixing factor; the network is `PixelPredictor` with ``"wide_residual"``; the
    loss is `torch.nn.BCEWithLogitsLoss` of the logits and that factor. Arguments: see `PixelPredictor`.

    Reference:
        Tan et al., "Detecting Outliers with Foreign Patch Interpolation", MELBA 2022.
    """

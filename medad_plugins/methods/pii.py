"""PII: FPI whose patches are blended without a seam."""

from __future__ import annotations

from medad_plugins.networks.families.pixel_predictor import PixelPredictor

__all__ = ["PII"]


class PII(PixelPredictor):
    """PII: for each pixel, the share by which a patch of another scan is blended into this one by Poisson editing.

    Its parts: the synthetic anomalies are `medad_plugins.synthesis.published.pii`, a cuboid of a second scan put in by
    Poisson blending and labelled with the mixing factor; the network is `PixelPredictor` with ``"wide_residual"``; the
    loss is `torch.nn.BCEWithLogitsLoss` of the logits and that factor. Arguments: see `PixelPredictor`.

    Reference:
        Tan et al., "Detecting Outliers with Poisson Image Interpolation", MICCAI 2021.
    """

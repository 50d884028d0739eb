"""Where a Bayesian U-Net that has learnt normal anatomy does not know what it sees."""

from __future__ import annotations

from medad_plugins.methods.segmentation_uncertainty.anatomy import Anatomy, anatomy_dataset
from medad_plugins.methods.segmentation_uncertainty.network import SegmentationUncertainty

__all__ = ["Anatomy", "SegmentationUncertainty", "anatomy_dataset"]

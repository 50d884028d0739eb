"""From features or residuals to one anomaly map, from the map to a score, from the score to a decision."""

from __future__ import annotations

from medad_plugins.scorers.calibration import Calibration
from medad_plugins.scorers.components import without_small_components
from medad_plugins.scorers.cosine import CosineMapFusion
from medad_plugins.scorers.gradient_similarity import EdgeDissimilarity, gradient_magnitude
from medad_plugins.scorers.grey_morphology import closed, dilated
from medad_plugins.scorers.image_grid import MapToImage
from medad_plugins.scorers.local_means import LocalMeanScore
from medad_plugins.scorers.median import MedianSmoothing
from medad_plugins.scorers.merged_p_values import MERGING_RULES, MergedPValues
from medad_plugins.scorers.normal_ranks import NormalRanks
from medad_plugins.scorers.pooling import MapPool
from medad_plugins.scorers.quantile_range import QuantileRange
from medad_plugins.scorers.residual import RESIDUALS, ResidualMap, gaussian_mean, local_mean, residual_map
from medad_plugins.scorers.smoothing import GaussianSmoothing
from medad_plugins.scorers.standard_score import StandardScore

__all__ = [
    "MERGING_RULES",
    "RESIDUALS",
    "Calibration",
    "CosineMapFusion",
    "EdgeDissimilarity",
    "GaussianSmoothing",
    "LocalMeanScore",
    "MapPool",
    "MapToImage",
    "MedianSmoothing",
    "MergedPValues",
    "NormalRanks",
    "QuantileRange",
    "ResidualMap",
    "StandardScore",
    "closed",
    "dilated",
    "gaussian_mean",
    "gradient_magnitude",
    "local_mean",
    "residual_map",
    "without_small_components",
]

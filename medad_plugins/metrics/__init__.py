"""Figures of detection (cases) and localization (pixels, lesions)."""

from __future__ import annotations

from medad_plugins.metrics.detection import binomial_interval, describe_detection, detection_summary
from medad_plugins.metrics.detection_metric import DetectionMetric
from medad_plugins.metrics.localization import LocalizationMetric
from medad_plugins.metrics.localization_functions import (
    compute_aupro,
    compute_pixel_metrics,
)
from medad_plugins.metrics.overlap import dice
from medad_plugins.metrics.pixel_counts import PixelCounts

__all__ = [
    "DetectionMetric",
    "LocalizationMetric",
    "PixelCounts",
    "binomial_interval",
    "compute_aupro",
    "compute_pixel_metrics",
    "describe_detection",
    "detection_summary",
    "dice",
]

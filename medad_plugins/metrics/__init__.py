"""Figures of detection (cases) and localization (pixels)."""

from __future__ import annotations

from medad_plugins.metrics.detection import binomial_interval, describe_detection, detection_summary
from medad_plugins.metrics.localization import PixelCounts, dice

__all__ = ["PixelCounts", "binomial_interval", "describe_detection", "detection_summary", "dice"]

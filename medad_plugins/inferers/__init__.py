"""Inferers."""

from __future__ import annotations

from medad_plugins.inferers.precision import PrecisionInferer
from medad_plugins.inferers.slices import SlicewiseInferer, scan_inferer

__all__ = ["PrecisionInferer", "SlicewiseInferer", "scan_inferer"]

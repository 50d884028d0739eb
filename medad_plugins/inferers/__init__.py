"""Inferers."""

from __future__ import annotations

from medad_plugins.inferers.precision import PrecisionInferer

__all__ = ["PrecisionInferer"]

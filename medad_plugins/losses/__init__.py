"""Losses."""

from __future__ import annotations

from medad_plugins.losses.global_cosine import GlobalCosineLoss
from medad_plugins.losses.residual import ResidualLoss

__all__ = ["GlobalCosineLoss", "ResidualLoss"]

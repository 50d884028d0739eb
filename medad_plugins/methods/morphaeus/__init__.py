"""MorphAEus: a deep autoencoder whose reconstruction is deformed towards the scan."""

from __future__ import annotations

from medad_plugins.methods.morphaeus.loss import DeformationLoss
from medad_plugins.methods.morphaeus.network import MorphAEus

__all__ = ["DeformationLoss", "MorphAEus"]

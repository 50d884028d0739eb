"""GeoTrans, GOAD and heads for each kind of transform: geometric transforms of normal scans, told apart."""

from __future__ import annotations

from medad_plugins.methods.geotrans.fitted import Dirichlets, TransformMeans
from medad_plugins.methods.geotrans.network import TASKS, GeoTrans, geotrans_terms, triplet_centre_loss

__all__ = [
    "TASKS",
    "Dirichlets",
    "GeoTrans",
    "TransformMeans",
    "geotrans_terms",
    "triplet_centre_loss",
]

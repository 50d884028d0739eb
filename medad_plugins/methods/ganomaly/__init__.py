"""GANomaly: what a scan's code loses when the scan is rebuilt and coded again."""

from __future__ import annotations

from medad_plugins.methods.ganomaly.network import GANomaly, RestartDiscriminator
from medad_plugins.methods.ganomaly.terms import ganomaly_terms

__all__ = [
    "GANomaly",
    "RestartDiscriminator",
    "ganomaly_terms",
]

"""After PMSACL: normal scans and several classes of synthetic anomalies, each drawn into a cluster of its own."""

from __future__ import annotations

from medad_plugins.methods.pmsacl.class_centres import ClassCentres
from medad_plugins.methods.pmsacl.network import PMSACL
from medad_plugins.methods.pmsacl.terms import PMSACLTerms

__all__ = [
    "PMSACL",
    "ClassCentres",
    "PMSACLTerms",
]

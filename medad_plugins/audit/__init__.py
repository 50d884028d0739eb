"""Leak audit: copies across splits, shortcuts to the label, and what trivial detectors reach."""

from __future__ import annotations

from medad_plugins.audit.audit import Audit, audit_cases
from medad_plugins.audit.baselines import Baseline, trivial_baselines
from medad_plugins.audit.copy_shares import CopyShare, Pair
from medad_plugins.audit.dataset import audit_dataset
from medad_plugins.audit.groups import write_grouped_list
from medad_plugins.audit.report import audit_as_json, find_results
from medad_plugins.audit.shortcuts import Shortcut
from medad_plugins.audit.signatures import Signatures, read_signatures

__all__ = [
    "Audit",
    "Baseline",
    "CopyShare",
    "Pair",
    "Shortcut",
    "Signatures",
    "audit_as_json",
    "audit_cases",
    "audit_dataset",
    "find_results",
    "read_signatures",
    "trivial_baselines",
    "write_grouped_list",
]

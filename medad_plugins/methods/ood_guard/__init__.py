"""OOD guard: whether a scan is one that somebody's trained model can be trusted on."""

from __future__ import annotations

from medad_plugins.methods.ood_guard.definition import guarded_definition
from medad_plugins.methods.ood_guard.network import OODGuard

__all__ = ["OODGuard", "guarded_definition"]

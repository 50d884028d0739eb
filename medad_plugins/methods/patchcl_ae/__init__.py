"""PatchCL-AE: a rebuilt scan must be alike place by place, to an encoder that learns what that means."""

from __future__ import annotations

from medad_plugins.methods.patchcl_ae.network import PatchCLAE
from medad_plugins.methods.patchcl_ae.terms import PatchCLAETerms

__all__ = [
    "PatchCLAE",
    "PatchCLAETerms",
]

"""DeSTSeg: a denoising student, and a network that segments where it differs from its teacher."""

from __future__ import annotations

from medad_plugins.methods.destseg.network import DeSTSeg
from medad_plugins.methods.destseg.terms import DeSTSegSegmentation, destseg_student

__all__ = ["DeSTSeg", "DeSTSegSegmentation", "destseg_student"]

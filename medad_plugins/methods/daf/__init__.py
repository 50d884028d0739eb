"""DAF: a student that imitates its teacher where scans are normal, and a segmentation of how the two differ."""

from __future__ import annotations

from medad_plugins.methods.daf.loss import DAFLoss
from medad_plugins.methods.daf.network import DAF

__all__ = ["DAF", "DAFLoss"]

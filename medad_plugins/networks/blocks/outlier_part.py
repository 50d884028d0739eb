"""The part of a residual that is taken for an outlier and not learnt: the proximal steps of robust autoencoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["OUTLIERS", "OutlierPart"]

OUTLIERS = ("none", "pixels", "scans")


class OutlierPart(nn.Module):
    """Shrinks residuals: what is left of them is the sparse part of the scans.

    Args:
        kind: ``"pixels"``: every value by itself, the step of an l1 norm; ``"scans"``: each scan as a whole, that of an
            l2,1 norm, which leaves nothing of most scans and much of a few.
        size: on 0..1, of a value or of the root of a scan's mean square: what is below it is no outlier.

    Shape:
        residuals ``(B, C, *spatial)`` to the same.

    Reference:
        Zhou and Paffenroth, "Anomaly detection with robust deep autoencoders", KDD 2017.
    """

    def __init__(self, kind: str, size: float) -> None:
        super().__init__()
        if kind not in OUTLIERS[1:] or size <= 0:
            raise ValueError(f"kind must be one of {OUTLIERS[1:]} and size positive, got {kind!r}, {size}.")
        self.whole, self.size = kind == "scans", size

    def forward(self, residual: Tensor) -> Tensor:
        if not self.whole:
            return functional.softshrink(residual, self.size)
        length = residual.flatten(1).square().mean(1).sqrt()
        kept = torch.relu(1 - self.size / length.clamp_min(1e-12))
        return residual * kept.reshape([-1] + [1] * (residual.dim() - 1))

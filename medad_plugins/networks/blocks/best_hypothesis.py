"""Several reconstructions of one scan, of which at every pixel the best counts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["BestHypothesis"]


class BestHypothesis(nn.Module):
    """At every pixel the residual of the hypothesis that errs least there; it alone learns from that pixel.

    Args:
        difference: what makes a map of one hypothesis and the scan.
        count: of hypotheses.

    Shape:
        hypotheses side by side along the channels ``(B, count * D, *spatial)``, each as ``difference`` takes it, and
        the scan ``(B, C, *spatial)``, to ``(B, 1, *spatial)``.
    """

    def __init__(self, difference: nn.Module, count: int) -> None:
        super().__init__()
        if count < 2:
            raise ValueError(f"count must be at least 2, got {count}.")
        self.difference, self.count = difference, count

    def errors(self, hypotheses: Tensor, image: Tensor) -> Tensor:
        """The map of each hypothesis, ``(B, count, *spatial)``."""
        found = [self.difference(each, image) for each in hypotheses.chunk(self.count, 1)]
        return torch.cat(found, 1)

    def closest(self, hypotheses: Tensor, image: Tensor) -> Tensor:
        """What the best hypothesis of each pixel makes of it, ``(B, C, *spatial)``."""
        best = self.errors(hypotheses, image).argmin(1, keepdim=True)
        rebuilt = torch.zeros_like(image)
        for index, each in enumerate(hypotheses.chunk(self.count, 1)):
            rebuilt = torch.where(best == index, each[:, : image.shape[1]], rebuilt)
        return rebuilt

    def forward(self, hypotheses: Tensor, image: Tensor) -> Tensor:
        return self.errors(hypotheses, image).amin(1, keepdim=True)

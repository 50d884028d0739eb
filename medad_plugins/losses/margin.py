"""Margin losses between normal and abnormal scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["TwoSidedMarginLoss"]


class TwoSidedMarginLoss(nn.Module):
    """Normal scores are to lie above the margin and others below its negative; beyond it they cost nothing.

    Args:
        margin: half the gap between the two.

    Shape:
        pair ``(normal, other)`` of scores ``(N,)`` and ``(M,)`` to a scalar, not negative: the mean over the normal
        ones of ``max(0, margin - score)`` plus the mean over the others of ``max(0, margin + score)``.

    Reference:
        Liu et al., CVPR 2023, where it is called the truncated l1 loss.
    """

    def __init__(self, margin: float = 0.5) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores: tuple[Tensor, Tensor], target: Tensor | None = None) -> Tensor:
        """Loss of the scores; ``target`` is there for engines that pass one and is not used."""
        normal, other = scores
        return torch.relu(self.margin - normal).mean() + torch.relu(self.margin + other).mean()

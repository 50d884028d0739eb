"""Weighted decision of UniNet: a scan's largest distances say how much of its map counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["WeightedDecision"]


class WeightedDecision(nn.Module):
    """Mean of a share of the map's highest values; the share is ``alpha`` times the mean of the scales' large maxima.

    A scale's maximum is that of one minus the cosine over its places. Large are those to which a softmax over the
    maxima gives no less than the mean.

    Args:
        alpha: share of the map for a mean of 1.
        least_share: the share is no smaller, and never less than one place.
        scale_weights: scales that count 0 in the map have no vote; of more pairs than weights they begin anew.

    Shape:
        lists of ``(B, C_k, *grid_k)``, rebuilt and true, and a map ``(B, 1, *spatial)`` to scores ``(B,)``.

    Reference:
        Wei et al., "UniNet", CVPR 2025.
    """

    def __init__(
        self, alpha: float = 0.01, least_share: float = 0.00003, scale_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.alpha, self.least_share = alpha, least_share
        self.votes = [True] if scale_weights is None else [weight > 0 for weight in scale_weights]

    def forward(self, rebuilt: list[Tensor], true: list[Tensor], anomaly_map: Tensor) -> Tensor:
        maxima: list[Tensor] = []
        for number, (own, other) in enumerate(zip(rebuilt, true)):
            if self.votes[number % len(self.votes)]:
                distance = 1 - functional.cosine_similarity(own.float(), other.float(), dim=1)
                maxima.append(distance.flatten(1).amax(1))
        largest = torch.stack(maxima, 1)
        chances = largest.softmax(1)
        # rounding must not leave out all of equal ones
        large = (chances >= chances.mean(1, keepdim=True) - 1e-6).to(largest.dtype)
        share = (self.alpha * (largest * large).sum(1) / large.sum(1)).clamp_min(self.least_share)
        ranked = anomaly_map.flatten(1).sort(1, descending=True).values
        count = (share * ranked.shape[1]).floor().clamp(1, ranked.shape[1])
        means = ranked.cumsum(1) / torch.arange(1, ranked.shape[1] + 1, device=ranked.device)
        return means.gather(1, count.long().unsqueeze(1) - 1).squeeze(1)

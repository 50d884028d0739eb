"""Loss of UniNet: rebuilt features are to be found at their place among all places of the scan."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.full_precision import full_precision

__all__ = ["PlaceContrastLoss"]


class PlaceContrastLoss(nn.Module):
    """Cosine, contrast among the places of a scan, and a margin of the chance of the right place, summed over pairs.

    A pair's places are told apart by a softmax of their cosines over a temperature. With ``p`` the chance that this
    gives the place itself, a place costs ``balance * (1 - cosine) - (1 - balance) * log p + max(0, margin - p)``.

    Args:
        temperature: the cosines are divided by it.
        balance: of the cosine against the contrast, 0 to 1.
        margin: what the chance of the right place is to reach.
        stop_gradient: nothing is learnt by what is to be rebuilt, as in the paper's medical experiments.
        most_places: of a scan and scale that are told apart; of larger maps every n-th along all axes is taken.

    Shape:
        pair ``(rebuilt, true)`` of lists of ``(B, C_k, *grid_k)`` to a scalar.

    Raises:
        ValueError: the temperature is not positive, or the balance not within 0 and 1.

    Reference:
        Wei et al., "UniNet", CVPR 2025.
    """

    def __init__(
        self,
        temperature: float = 2.0,
        balance: float = 0.7,
        margin: float = 1.0,
        stop_gradient: bool = True,
        most_places: int = 4096,
    ) -> None:
        super().__init__()
        if temperature <= 0 or not 0 <= balance <= 1:
            raise ValueError(f"temperature must be positive and balance 0 to 1, got {temperature} and {balance}.")
        self.temperature, self.balance, self.margin = temperature, balance, margin
        self.stop_gradient, self.most_places = stop_gradient, most_places

    def _thinned(self, features: Tensor) -> Tensor:
        """Unit vectors ``(B, N, C)`` of every place, or of every n-th along all axes."""
        grid, step = features.shape[2:], 1
        while math.prod(-(-edge // step) for edge in grid) > self.most_places:
            step += 1
        every: list[slice] = [slice(None), slice(None), *[slice(None, None, step)] * len(grid)]
        kept = features[tuple(every)]
        return functional.normalize(kept.flatten(2).transpose(1, 2), dim=2)

    def _pair(self, rebuilt: Tensor, true: Tensor) -> Tensor:
        rebuilt, true = full_precision(rebuilt), full_precision(true)
        cosine = functional.cosine_similarity(rebuilt, true, dim=1)
        # autocast would compute the products in half precision
        with torch.autocast(rebuilt.device.type, enabled=False):
            logits = self._thinned(rebuilt) @ self._thinned(true).transpose(1, 2) / self.temperature
        right = logits.diagonal(dim1=1, dim2=2) - logits.logsumexp(2)
        missed = (self.margin - right.exp()).clamp_min(0)
        return self.balance * (1 - cosine).mean() - (1 - self.balance) * right.mean() + missed.mean()

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        rebuilt, true = features
        pairs = [
            self._pair(own, other.detach() if self.stop_gradient else other)
            for own, other in zip(rebuilt, true, strict=True)
        ]
        return torch.stack(pairs).sum()

"""The loss of Hetero-AE."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["FeatureSimilarityLoss"]


class FeatureSimilarityLoss(nn.Module):
    """Of every map, one minus the cosine along the channels and the mean squared error, weighted and added up.

    Args:
        cosine_share: weight of the cosine, 0..1; the rest is the squared error's.

    Shape:
        pair ``(rebuilt, true)`` of lists of ``(B, C_k, *grid_k)`` to a scalar, not negative.

    Example:
        >>> rebuilt, true = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), 1.0)
        >>> FeatureSimilarityLoss(0.75)(([rebuilt], [true]))
        tensor(1.)
    """

    def __init__(self, cosine_share: float = 0.7) -> None:
        super().__init__()
        if not 0 <= cosine_share <= 1:
            raise ValueError(f"cosine_share must lie in 0..1, got {cosine_share}.")
        self.cosine_share = cosine_share

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        terms: list[Tensor] = []
        for rebuilt, true in zip(*features, strict=True):
            rebuilt, true = rebuilt.float(), true.detach().float()
            cosine = functional.cosine_similarity(rebuilt, true, dim=1).mean()
            terms.append(
                self.cosine_share * (1 - cosine) + (1 - self.cosine_share) * functional.mse_loss(rebuilt, true)
            )
        return torch.stack(terms).sum()

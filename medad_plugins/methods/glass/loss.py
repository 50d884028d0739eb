"""Loss of GLASS: cross-entropies of its global branch, a focal one on the hard locations of its local branch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.rank_gather import of_all_ranks

if TYPE_CHECKING:
    from medad_plugins.methods.glass.network import GlassLogits

__all__ = ["GlassLoss"]


class GlassLoss(nn.Module):
    """Mean cross-entropy of normal features and of ascended ones, plus the focal loss of the hardest local ones.

    Args:
        hard_share: share of the local locations that count, those with the largest squared error.
        gamma: of the focal loss.

    Shape:
        `medad_plugins.methods.glass.GlassLogits` to a scalar.

    Reference:
        Chen et al., ECCV 2024.
    """

    def __init__(self, hard_share: float = 0.5, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 < hard_share <= 1:
            raise ValueError(f"hard_share must lie in (0, 1], got {hard_share}.")
        self.hard_share, self.gamma = hard_share, gamma

    def forward(self, said: GlassLogits, target: Tensor | None = None) -> Tensor:
        """Loss of what was said; ``target`` is there for engines that pass one and is not used."""
        # high logits mean abnormal
        total = functional.softplus(said.normal).mean() + functional.softplus(-said.ascended).mean()
        wrong = of_all_ranks(torch.where(said.mask > 0, -said.local, said.local))
        # the error of the probability rises with the logit that speaks for the wrong class
        count = max(1, int(self.hard_share * len(wrong) + 0.5))
        hard = torch.topk(wrong, count).values
        focal = torch.sigmoid(hard) ** self.gamma * functional.softplus(hard)
        return total + focal.mean()

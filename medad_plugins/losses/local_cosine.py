"""Cosine loss location by location."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LocalCosineLoss"]


class LocalCosineLoss(nn.Module):
    """Sum over scales of one minus the cosine along the channels, averaged over locations and batch.

    What is scored is what is trained: the mean of the maps. The gradient stops at the teacher's side.

    Args:
        weight: of the sum; 2 makes it the squared distance between features of unit length (student-teacher feature
            pyramid matching).

    Shape:
        pair ``(rebuilt, teacher)`` of lists of ``(B, C_k, *grid_k)`` to a scalar, 0..K for K scales of ReLU features.

    References:
        Deng and Li, CVPR 2022, equations 1 and 2; their public code trains with `GlobalCosineLoss`. Wang et al., BMVC
        2021, whose equations have a factor of 1/2 that their public code lacks.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        rebuilt, teacher = features
        distances = [
            1 - functional.cosine_similarity(r.float(), t.detach().float(), dim=1).mean()
            for r, t in zip(rebuilt, teacher)
        ]
        return self.weight * torch.stack(distances).sum()

"""Reconstruction of several views of a scan, and agreement of their embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.global_cosine import GlobalCosineLoss

__all__ = ["ViewConsistencyLoss"]


class ViewConsistencyLoss(nn.Module):
    """Mean over the views of their global cosine loss, plus one minus the cosine between the views' embeddings.

    There are no negatives and no stop of the gradient between the embeddings: nothing but the reconstruction and a slow
    encoder keeps them from becoming all the same.

    Args:
        weight: of the consistency.

    Shape:
        for each of one or two views a pair of lists as `GlobalCosineLoss` takes it, and for each an embedding
        ``(B, C)``, to a scalar.

    Reference:
        Tang et al., IEEE TMI 44(8), 2025: half of each view's loss and half of the consistency.
    """

    def __init__(self, weight: float = 0.5) -> None:
        super().__init__()
        self.weight = weight
        self.reconstruction = GlobalCosineLoss()

    def forward(
        self,
        features: tuple[list[tuple[list[Tensor], list[Tensor]]], list[Tensor]],
        target: Tensor | None = None,
    ) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        pairs, embeddings = features
        loss = torch.stack([self.reconstruction(pair) for pair in pairs]).mean()
        if len(embeddings) == 1:
            return loss
        cosine = functional.cosine_similarity(embeddings[0].float(), embeddings[1].float(), dim=1)
        return loss + self.weight * (1 - cosine.mean())

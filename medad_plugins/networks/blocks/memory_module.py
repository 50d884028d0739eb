"""A learnt memory of normal feature vectors, of which every query becomes a weighted mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.memory_addressing import hard_shrink

__all__ = ["SIMILARITIES", "MemoryModule"]

SIMILARITIES = ("dot", "cosine")


class MemoryModule(nn.Module):
    """Items that queries are put together from; those of little weight are left out. Learnt by gradient as any weight.

    Args:
        size: length of the items.
        items: how many.
        threshold: weights up to it become 0 and the others are scaled to sum to one. Below ``1 / items`` it hardly
            leaves anything out, at ``1 / items`` the stronger half stays, and far above it a query may find nothing:
            its answer is then zero.
        similarity: ``"dot"``: products (the authors' code) or ``"cosine"`` (the paper's text) under the softmax.

    Shape:
        queries ``(B, size)`` or ``(B, size, *grid)``, one for each location, to answers of the same shape and weights
        ``(B, items)`` or ``(B, items, *grid)``.

    Reference:
        Gong et al., "Memorizing Normality to Detect Anomaly: Memory-Augmented Deep Autoencoder for Unsupervised Anomaly
        Detection", ICCV 2019.
    """

    def __init__(self, size: int, items: int = 2000, threshold: float = 0.0025, similarity: str = "dot") -> None:
        super().__init__()
        if items < 2 or not 0 <= threshold < 1:
            raise ValueError(f"items must be at least 2 and threshold lie in [0, 1), got {items} and {threshold}.")
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity must be one of {SIMILARITIES}, got {similarity!r}.")
        self.cosine = similarity == "cosine"
        bound = size**-0.5
        self.items = nn.Parameter(torch.empty(items, size).uniform_(-bound, bound))
        self.threshold: Tensor = nn.Buffer(torch.tensor(threshold), persistent=False)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(queries.device.type):
                # half precision has not the digits for thousands of small weights
                with torch.autocast(queries.device.type, enabled=False):
                    return self._answer(queries.to(self.items.dtype))
        return self._answer(queries)

    def _answer(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        last = queries.movedim(1, -1)
        likeness = last @ self.items.t()
        if self.cosine:
            norms = torch.linalg.vector_norm(last, dim=-1, keepdim=True) * torch.linalg.vector_norm(self.items, dim=1)
            likeness = likeness / norms.clamp_min(1e-12)
        weights = hard_shrink(torch.softmax(likeness, -1), self.threshold)
        return (weights @ self.items).movedim(-1, 1), weights.movedim(-1, 1)

"""A learnt memory of normal feature vectors, of which every query becomes a weighted mean."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.blocks.memory_addressing import hard_shrink

__all__ = ["SIMILARITIES", "MemoryModule"]

SIMILARITIES = ("dot", "cosine")


def _evenly(items: int, size: int) -> nn.Parameter:
    """Vectors evenly distributed within one over the root of their length."""
    bound = size**-0.5
    return nn.Parameter(torch.empty(items, size).uniform_(-bound, bound))


class MemoryModule(nn.Module):
    """Items that queries are put together from; those of little weight are left out. Learnt by gradient as any weight.

    Args:
        size: length of the items.
        items: how many.
        threshold: weights up to it become 0 and the others are scaled to sum to one. Below ``1 / items`` it hardly
            leaves anything out, at ``1 / items`` the stronger half stays, and far above it a query may find nothing:
            its answer is then zero.
        similarity: ``"dot"``: products (the authors' code) or ``"cosine"`` (the paper's text) under the softmax.
        sharpness: what similarities are multiplied by before the softmax. Cosines alone hardly tell many items apart;
            products grow by themselves, until each query has one item and no gradient.
        answer_size: length of what stands beside each item, learnt as well, and is the answer in its place; None has
            the items themselves as answers.

    Shape:
        queries ``(B, size)`` or ``(B, size, *grid)``, one for each location, to answers ``(B, size or answer_size)`` or
        ``(B, size or answer_size, *grid)`` and weights ``(B, items)`` or ``(B, items, *grid)``.

    Reference:
        Gong et al., "Memorizing Normality to Detect Anomaly: Memory-Augmented Deep Autoencoder for Unsupervised Anomaly
        Detection", ICCV 2019.
    """

    def __init__(
        self,
        size: int,
        items: int = 2000,
        threshold: float = 0.0025,
        similarity: str = "dot",
        sharpness: float = 1.0,
        answer_size: int | None = None,
    ) -> None:
        super().__init__()
        if items < 2 or not 0 <= threshold < 1:
            raise ValueError(f"items must be at least 2 and threshold lie in [0, 1), got {items} and {threshold}.")
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity must be one of {SIMILARITIES}, got {similarity!r}.")
        if sharpness <= 0:
            raise ValueError(f"sharpness must be positive, got {sharpness}.")
        self.sharpness = float(sharpness)
        self.cosine = similarity == "cosine"
        self.items = _evenly(items, size)
        self.register_parameter("answers", None if answer_size is None else _evenly(items, answer_size))
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
        weights = hard_shrink(torch.softmax(self.sharpness * likeness, -1), self.threshold)
        answers = self.items if self.answers is None else self.answers
        # a parameter that may be None has no annotation that TorchScript reads
        return (weights @ answers).movedim(-1, 1), weights.movedim(-1, 1)  # type: ignore[operator]

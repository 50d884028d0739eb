"""A memory whose items are written by the queries of normal scans, not learnt by gradient."""

from __future__ import annotations

import ignite.distributed as idist
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PrototypeMemory"]


class PrototypeMemory(nn.Module):
    """Items of unit length, each a mean of the normal queries that are nearest to it.

    Args:
        size: length of the items.
        items: how many.

    Buffers:
        items ``(M, size)``: random at first, of a fixed seed.

    Shape:
        queries ``(B, size, *grid)`` of unit length to answers of the same shape, sums of the items weighted by the
        softmax of their products with the query, and squared distances ``(B, *grid)`` to the nearest item.

    Reference:
        Park, Noh and Ham, "Learning memory-guided normality for anomaly detection", CVPR 2020.
    """

    def __init__(self, size: int, items: int = 10) -> None:
        super().__init__()
        if items < 2:
            raise ValueError(f"items must be at least 2, got {items}.")
        drawn = torch.rand(items, size, generator=torch.Generator().manual_seed(0))
        self.items: Tensor = nn.Buffer(functional.normalize(drawn, dim=1))

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        last = queries.movedim(1, -1)
        likeness = last @ self.items.t()
        answers = torch.softmax(likeness, -1) @ self.items
        # of two vectors of unit length
        distances = (2 - 2 * likeness.amax(-1)).clamp_min(0)
        return answers.movedim(-1, 1), distances

    def nearest_two(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest and the second nearest item ``(n, size)`` of queries ``(n, size)``."""
        order = torch.topk(rows.detach() @ self.items.t(), 2, dim=1).indices
        return self.items[order[:, 0]], self.items[order[:, 1]]

    @torch.no_grad()
    def write(self, rows: Tensor) -> None:
        """Move every item towards the queries ``(n, size)`` whose nearest it is, the more the more alike they are.

        With several processes all write the queries of all, so that memories stay equal.
        """
        rows = rows.detach().to(self.items.dtype)
        if idist.get_world_size() > 1:
            rows = torch.as_tensor(idist.all_gather(rows.contiguous()))
        likeness = rows @ self.items.t()
        own = functional.one_hot(likeness.argmax(1), len(self.items)).to(rows)
        weights = torch.softmax(likeness, 0)
        weights = weights / weights.amax(0, keepdim=True).clamp_min(1e-12)
        self.items = functional.normalize(self.items + (own * weights).t() @ rows, dim=1)

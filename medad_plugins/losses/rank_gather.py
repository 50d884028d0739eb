"""Vectors of the batches of all processes, for losses that compare cases with each other."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from torch import Tensor

__all__ = ["of_all_ranks"]


class _Gather(torch.autograd.Function):
    """All processes' rows; backwards, each process takes its own rows' gradient as often as there are processes.

    Every process computes the same loss of the same rows, and the gradients of its parameters are averaged afterwards:
    the factor makes of the average the sum that one process would have had.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.rows = len(values)
        return torch.as_tensor(idist.all_gather(values.contiguous()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        first = idist.get_rank() * int(ctx.rows)
        return gradients[0][first : first + int(ctx.rows)] * idist.get_world_size()


def of_all_ranks(values: Tensor) -> Tensor:
    """Rows ``(N, ...)`` of all processes, the first one's first, with their gradient; alone they are what they are.

    For trainers that average the gradients of the processes, and losses that are then the same on each of them.
    """
    if idist.get_world_size() == 1:
        return values
    gathered: Tensor = (
        _Gather.apply(values) if values.is_floating_point() else torch.as_tensor(idist.all_gather(values))
    )
    return gathered

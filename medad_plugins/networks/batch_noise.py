"""Noise for the cases of a batch, the same whether one process draws it or several do."""

from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
from torch import Tensor

__all__ = ["batch_normal", "batch_uniform"]


def _own_share(values: Tensor, like: Tensor) -> Tensor:
    # the loader gives the cases of a batch to the processes by turns
    return values[idist.get_rank() :: idist.get_world_size()].to(like)


def _shape(shape: Sequence[int]) -> list[int]:
    return [shape[0] * idist.get_world_size(), *shape[1:]]


def batch_normal(shape: Sequence[int], like: Tensor) -> Tensor:
    """Values from the standard normal distribution, of each process its cases of the batch.

    They are drawn on the processor, whose generator a stopped training keeps, by processes with equal generators, as
    those of `medad_plugins.engines.PhasedTrainer` are.

    Args:
        shape: ``(B, ...)`` with the cases of this process.
        like: whose device and type.
    """
    return _own_share(torch.randn(_shape(shape)), like)


def batch_uniform(shape: Sequence[int], like: Tensor) -> Tensor:
    """Values between 0 and 1, equally likely; otherwise as `batch_normal`."""
    return _own_share(torch.rand(_shape(shape)), like)

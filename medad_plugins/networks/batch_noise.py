"""Noise for the cases of a batch, the same whether one process draws it or several do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ignite.distributed as idist
import torch
from torch import Tensor

__all__ = ["batch_drawn", "batch_normal", "batch_uniform"]


def batch_drawn(draw: Callable[[list[int]], Tensor], shape: Sequence[int], like: Tensor) -> Tensor:
    """Whatever is drawn for a batch, of each process its cases.

    Args:
        draw: a shape ``(cases of all processes, ...)`` to values, by PyTorch's generator of the processor.
        shape: ``(B, ...)`` with the cases of this process.
        like: whose device and type.
    """
    values = draw([shape[0] * idist.get_world_size(), *shape[1:]])
    # the loader gives the cases of a batch to the processes by turns
    return values[idist.get_rank() :: idist.get_world_size()].to(like)


def batch_normal(shape: Sequence[int], like: Tensor) -> Tensor:
    """Values from the standard normal distribution, of each process its cases of the batch.

    They come from the processor's generator, which a stopped training keeps, in processes with equal generators, as
    those of a bundle's training are; on a GPU they are drawn there, from a seed of that generator.

    Args:
        shape: ``(B, ...)`` with the cases of this process.
        like: whose device and type.
    """
    return batch_drawn(lambda whole: torch.randn(whole, generator=_generator(like), device=like.device), shape, like)


def batch_uniform(shape: Sequence[int], like: Tensor) -> Tensor:
    """Values between 0 and 1, equally likely; otherwise as `batch_normal`."""
    return batch_drawn(lambda whole: torch.rand(whole, generator=_generator(like), device=like.device), shape, like)


def _generator(like: Tensor) -> torch.Generator | None:
    """None, which is the processor's own, or a GPU's generator with a seed of that."""
    if like.device.type == "cpu":
        return None
    seed = int(torch.randint(2**62, ()))
    return torch.Generator(like.device).manual_seed(seed)

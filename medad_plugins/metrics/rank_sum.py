"""Sums of all ranks of a distributed run."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
import torch
from numpy.typing import NDArray

from medad_plugins.metrics.value_bins import ValueBins

__all__ = ["agree_on_bins", "reduce_over_ranks"]


def reduce_over_ranks(array: NDArray, op: str = "SUM") -> None:
    """Replace an array of numbers, in place, by what the arrays of all ranks give together (SUM, MIN, MAX)."""
    if idist.get_world_size() > 1:
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(idist.device())
        array[...] = torch.as_tensor(idist.all_reduce(tensor, op)).cpu().numpy()


def agree_on_bins(own: ValueBins, common: ValueBins) -> None:
    """Give bins without values those that all ranks' own values need, in one order on all ranks."""
    split = np.array([own.split], dtype=np.int64)
    reduce_over_ranks(split, "MIN")
    common.join(int(split[0]))
    seen = np.zeros(common.most_groups, dtype=np.int32)
    seen[own.joined_groups(common.split)] = 1
    reduce_over_ranks(seen, "MAX")
    common.add_groups(np.flatnonzero(seen))

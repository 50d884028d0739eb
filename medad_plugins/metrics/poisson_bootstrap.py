"""Bootstrap of sums over cases that are seen once and not kept."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from medad_plugins.metrics.value_bins import ValueBins

__all__ = ["BinnedReplicates", "group_number", "percentile_interval", "poisson_weights"]

_BLOCK = 32  # cases that are weighted by one matrix product


def group_number(group: str) -> int:
    """A number of 62 bits that stands for a group wherever it is computed."""
    return int.from_bytes(hashlib.blake2b(group.encode(), digest_size=8).digest(), "little") >> 2


def poisson_weights(group: int, replicates: int, seed: int) -> NDArray[np.float64]:
    """How often the cases of a group count in each replicate, ``(1 + replicates,)``; the first, 1, is the data itself.

    Counts are drawn from Poisson(1), what the count of a case in a bootstrap sample tends to as cases grow many
    (Hanley & MacGibbon 2006, "Creating non-parametric bootstrap samples using Poisson frequencies"). They depend on
    group and seed alone, so cases may come in any order, on any rank.
    """
    drawn = np.random.default_rng((seed, group)).poisson(1.0, replicates)
    return np.concatenate([[1.0], drawn])


class BinnedReplicates:
    """Sums per bin over cases, once for the data and once for each replicate.

    Args:
        bins: where the cases' values are counted.
        rows: sums per bin and case.
        replicates: how many besides the data itself.
    """

    def __init__(self, bins: ValueBins, rows: int, replicates: int) -> None:
        self.bins = bins
        self._sums = bins.zeros(1 + replicates, rows, dtype=np.float32)
        self._block = bins.zeros(_BLOCK, rows, dtype=np.float32)
        self._weights = np.zeros((_BLOCK, 1 + replicates), dtype=np.float32)
        self._filled = 0

    def case(self, weights: NDArray) -> NDArray[np.float32]:
        """Room ``(rows, capacity)``, all 0, for the counts of the next case, to be filled before the next call."""
        if self._filled == _BLOCK:
            self._add_block()
        self._weights[self._filled] = weights
        self._filled += 1
        return self._block[self._filled - 1]

    def _add_block(self) -> None:
        """Matrix product over the cases of the block: one pass over the sums for all of them."""
        used, block = self.bins.used, self._block[: self._filled]
        for row in range(self._sums.shape[1]):
            self._sums[:, row, :used] += self._weights[: self._filled].T @ block[:, row, :used]
        block[..., :used] = 0
        self._filled = 0

    def sums(self) -> NDArray[np.float32]:
        """Sums so far, ``(1 + replicates, rows, capacity)``."""
        self._add_block()
        return self._sums


def percentile_interval(values: NDArray, estimate: float, highest: float = 1.0) -> list[float] | None:
    """95 % interval by percentiles of the replicates, moved by what the estimate differs from their data's own figure.

    Args:
        values: the figure of the data at the replicates' precision, then those of the replicates; NaN where undefined.
        estimate: the figure at full precision.
        highest: the most the figure can be; the least is 0.

    Returns:
        ``[low, high]``; None where more than half of the replicates cannot give the figure.
    """
    replicates = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(estimate) or not np.isfinite(values[0]) or 2 * replicates.size <= values.size - 1:
        return None
    low, high = np.percentile(replicates, [2.5, 97.5]) + (estimate - values[0])
    return [float(np.clip(low, 0.0, highest)), float(np.clip(high, 0.0, highest))]

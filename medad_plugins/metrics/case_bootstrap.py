"""Stratified bootstrap of cases by whole groups."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["GroupBootstrap"]

_MOST_WEIGHTS = 1 << 22  # weights drawn at a time: 32 MiB


class GroupBootstrap:
    """Draws groups (patients) with replacement, as many as there are, apart for each kind of group.

    The kinds are groups of normal cases only, of abnormal cases only, and of both, so that every resample has about as
    many cases of each class as the data (exactly as many where each case is its own group).

    Args:
        labels: 0 normal, 1 abnormal, ``(N,)``.
        groups: what each case belongs to; None makes each its own.
    """

    def __init__(self, labels: NDArray[np.integer], groups: Sequence[Hashable] | None = None) -> None:
        if groups is None:
            self._group = np.arange(labels.size)
        else:
            numbers: dict[Hashable, int] = {}
            self._group = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)
        count = int(self._group.max()) + 1 if labels.size else 0
        self.single_cases = count == labels.size
        holds = np.zeros((2, count), dtype=bool)
        for label in (0, 1):
            holds[label, self._group[labels == label]] = True
        self.size = labels.size
        self._groups_of_class = holds.sum(axis=1)
        kind = holds[0] + 2 * holds[1].astype(int)
        self._kinds = [np.flatnonzero(kind == number) for number in (1, 2, 3)]
        self._count = count

    def varies(self, figure: str) -> bool:
        """Whether resampling can change a figure: the cases it depends on come from more than one group of a class."""
        needed = {"sensitivity": [1], "specificity": [0]}.get(figure, [0, 1])
        counts = self._groups_of_class[needed]
        return bool((counts != 1).all() and counts.any())

    def weights(self, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
        """How often each case is in each resample, ``(resamples, N)`` in parts of rows that fit in memory."""
        random = np.random.default_rng(seed)
        most = max(1, _MOST_WEIGHTS // max(self._group.size, 1))
        for start in range(0, resamples, most):
            rows = min(most, resamples - start)
            drawn = np.zeros(rows * self._count)
            first = np.arange(rows)[:, None] * self._count
            for members in self._kinds:
                picks = members[random.integers(0, members.size, (rows, members.size))] if members.size else members
                drawn += np.bincount((first + picks).ravel(), minlength=drawn.size) if members.size else 0
            yield drawn.reshape(rows, self._count)[:, self._group]

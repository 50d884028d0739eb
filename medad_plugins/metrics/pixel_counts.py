"""Counts of normal and lesion pixels per map value, and the curves they give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medad_plugins.metrics.curves import area_to_limit, average_precision, best_dice
from medad_plugins.metrics.lesions import Lesions
from medad_plugins.metrics.value_bins import ValueBins

__all__ = ["PixelCounts", "PixelCurves", "count_case", "counted_rows"]

_BINS = 1 << 19


def counted_rows(n_sizes: int) -> int:
    """Rows of counts: all pixels, then lesion pixels by size of lesion, then the same with each lesion weighing 1."""
    return 1 + 2 * n_sizes


def count_case(
    bins: ValueBins,
    rows: NDArray[np.floating],
    anomaly_map: NDArray,
    inside: NDArray,
    lesions: Lesions | None = None,
    size_class: NDArray[np.intp] | None = None,
) -> None:
    """Add the pixels of a case to its sums per bin.

    Args:
        bins: where values are counted.
        rows: ``(rows, capacity)``, see `counted_rows`; an array of ``bins``.
        anomaly_map: ``(*spatial)``.
        inside: the map's values in the mask, ``(P,)``.
        lesions: what the mask consists of; None counts lesion pixels without regard to lesions, as size class 0.
        size_class: class of each lesion, ``(L,)``.
    """
    one = rows.dtype.type(1)  # of the sums' own type: NumPy's fast path
    for found in bins.find(anomaly_map):
        np.add.at(rows[0], found, one)
    start = 0
    for found in bins.find(inside):
        if lesions is None or size_class is None:
            np.add.at(rows[1], found, one)
            continue
        owner = lesions.owner[start : start + found.size]
        start += found.size
        row, n_sizes = 1 + size_class[owner], (rows.shape[0] - 1) // 2
        np.add.at(rows, (row, found), one)
        np.add.at(rows, (row + n_sizes, found), 1 / lesions.sizes[owner])


class PixelCurves:
    """Curves of replicates of the same data, over the thresholds at which a lesion pixel turns up.

    Args:
        counts: ``(replicates, rows, capacity)``, see `counted_rows`; the first replicate has a pixel wherever one has.
        bins: of the counts.
    """

    def __init__(self, counts: NDArray[np.floating], bins: ValueBins) -> None:
        self._sizes = max(1, (counts.shape[1] - 1) // 2)
        used = bins.used
        lesion = counts[:, 1 : 1 + self._sizes]
        here = np.flatnonzero(lesion[0, :, :used].any(axis=0))
        places = bins.places(here)
        order = np.argsort(places)
        here, places = here[order], places[order]
        self._positives = lesion[:, :, here].astype(np.float64)
        self._regions = counts[:, 1 + self._sizes :, here].astype(np.float64)
        normal = bins.falling(counts[:, 0]).astype(np.float64, copy=False)
        normal[:, places] -= self._positives.sum(axis=1)
        self._normals = normal.sum(axis=-1, keepdims=True)
        if places.size:  # sums between the places of lesion pixels: a running sum over all bins takes longer
            normal = normal[:, : places[-1] + 1]
            parts = np.add.reduceat(normal, np.append(0, places[:-1] + 1), axis=-1)
        else:
            parts = normal[:, :0]
        self._until = np.cumsum(parts, axis=-1)
        self._before = self._until - normal[:, places]

    def _rates(self) -> tuple[NDArray, NDArray]:
        """False-positive rate just above and at each threshold; NaN without normal pixels."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._before / self._normals, self._until / self._normals

    def _of_size(self, rows: NDArray, size: int | None) -> NDArray:
        return rows.sum(axis=1) if size is None else rows[:, size]

    def auroc(self, size: int | None = None) -> NDArray[np.float64]:
        """Area under the ROC curve of all pixels, ``(replicates,)``; of lesions of one size class against all normal
        pixels, where given. NaN without lesion pixels or without normal pixels.
        """  # noqa: D205
        positives = self._of_size(self._positives, size)
        return self._area(positives, positives.sum(axis=-1), 1.0)

    def aupro(self, lesions: NDArray, limit: float, size: int | None = None) -> NDArray[np.float64]:
        """Area under the curve of per-lesion recall, averaged over lesions, against the false-positive rate.

        From 0 to ``limit``, divided by it (Bergmann et al. 2020, "Uninformed students").

        Args:
            lesions: how many lesions there are, ``(replicates,)``.
            limit: highest false-positive rate, in (0, 1].
            size: size class of the lesions; None for all.
        """
        return self._area(self._of_size(self._regions, size), lesions, limit)

    def _area(self, gains: NDArray, height: NDArray, limit: float) -> NDArray[np.float64]:
        before, after = self._rates()
        with np.errstate(invalid="ignore", divide="ignore"):
            area = area_to_limit(gains, before, after, limit) / height
        return np.where((height > 0) & (self._normals[:, 0] > 0), area, np.nan)

    def average_precision(self, size: int | None = None) -> NDArray[np.float64]:
        """Average precision of all pixels as scikit-learn defines it, ``(replicates,)``."""
        return average_precision(self._of_size(self._positives, size), self._until)

    def best_dice(self, size: int | None = None) -> NDArray[np.float64]:
        """Highest Dice any one threshold reaches over all pixels pooled: an upper bound, chosen on the truth."""
        return best_dice(self._of_size(self._positives, size), self._until)


class PixelCounts:
    """Counts of pixels per map value over any number of cases, in at most half a million bins (`ValueBins`).

    Args:
        n_sizes: how many classes of lesion size are counted apart.
        by_lesion: whether cases come with their lesions.

    Example:
        >>> counts = PixelCounts()
        >>> counts.update(np.array([[0.1, 0.9], [0.3, 0.8]]), np.array([[0, 1], [0, 1]]))
        >>> counts.update(np.array([[0.2, 0.4]]), None)
        >>> counts.auroc(), counts.best_dice()
        (1.0, 1.0)
    """

    def __init__(self, n_sizes: int = 1, *, by_lesion: bool = False) -> None:
        self.bins = ValueBins(_BINS)
        self.sums = self.bins.zeros(counted_rows(n_sizes) if by_lesion else 2)

    def update(
        self,
        anomaly_map: NDArray,
        truth: NDArray | None,
        lesions: Lesions | None = None,
        size_class: NDArray[np.intp] | None = None,
    ) -> None:
        """Add a case: its map and the binary mask of the same shape; None for a normal case (an empty mask).

        Raises:
            ValueError: map and mask differ in shape, or the map has a NaN or infinite value.
        """
        if truth is not None and truth.shape != anomaly_map.shape:
            raise ValueError(f"map {anomaly_map.shape} and mask {truth.shape} differ in shape")
        inside = anomaly_map[np.asarray(truth, dtype=bool)] if truth is not None else anomaly_map[:0].reshape(-1)
        count_case(self.bins, self.sums, anomaly_map, inside, lesions, size_class)

    def curves(self) -> PixelCurves:
        """Curves of the cases so far, as one replicate."""
        return PixelCurves(self.sums[None], self.bins)

    def auroc(self) -> float | None:
        """Area under the ROC curve; None without lesion pixels or without normal ones."""
        return _number(self.curves().auroc())

    def average_precision(self) -> float | None:
        """Area under the precision-recall curve as scikit-learn defines it; None without lesion pixels."""
        return _number(self.curves().average_precision())

    def best_dice(self) -> float | None:
        """The highest Dice any one threshold reaches over all pixels pooled: an upper bound, chosen on the truth."""
        return _number(self.curves().best_dice())


def _number(values: Sequence[float] | NDArray) -> float | None:
    return float(values[0]) if np.isfinite(values[0]) else None

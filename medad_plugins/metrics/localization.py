"""How well anomaly maps and masks find the pixels of a lesion, in memory that does not grow with the cases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PixelCounts", "dice"]

_BITS = 20  # sign, exponent and 11 bits of mantissa: neighbouring bins differ by 0.05 % of the value
_BINS = 1 << _BITS


def dice(mask: NDArray, truth: NDArray) -> float:
    """Dice coefficient of two binary arrays of one shape; 1.0 when both are empty."""
    mask, truth = np.asarray(mask, dtype=bool), np.asarray(truth, dtype=bool)
    total = int(mask.sum()) + int(truth.sum())
    return 2.0 * int((mask & truth).sum()) / total if total else 1.0


def _bins(values: NDArray) -> NDArray[np.uint32]:
    """Bin of each value: the leading bits of its float32, in an order that is the order of the values."""
    # Adding zero turns -0.0 into 0.0, which would otherwise be a bin of its own below it.
    bits = (np.ascontiguousarray(values, dtype=np.float32).ravel() + np.float32(0)).view(np.uint32)
    negative = bits >> 31 == 1
    ordered = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    return ordered >> np.uint32(32 - _BITS)


class PixelCounts:
    """Counts of normal and abnormal pixels per map value, over any number of cases, in 16 MiB.

    Values are binned by the leading 20 bits of their float32 (0.05 % wide, whatever their scale), so that no range has
    to be known beforehand and figures do not depend on the order of the cases.
    """

    def __init__(self) -> None:
        self.normal = np.zeros(_BINS, dtype=np.int64)
        self.abnormal = np.zeros(_BINS, dtype=np.int64)

    def update(self, anomaly_map: NDArray, truth: NDArray | None) -> None:
        """Add a case: its map and the binary mask of the same shape; None for a normal case (an empty mask)."""
        bins = _bins(anomaly_map)
        if truth is None:
            self.normal += np.bincount(bins, minlength=_BINS)
            return
        if truth.shape != anomaly_map.shape:
            raise ValueError(f"map {anomaly_map.shape} and mask {truth.shape} differ in shape")
        inside = np.asarray(truth, dtype=bool).ravel()
        self.abnormal += np.bincount(bins[inside], minlength=_BINS)
        self.normal += np.bincount(bins[~inside], minlength=_BINS)

    def _cumulated(self) -> tuple[NDArray, NDArray]:
        """True and false positives when the threshold falls from the highest value to the lowest."""
        filled = np.flatnonzero(self.normal + self.abnormal)[::-1]
        return np.cumsum(self.abnormal[filled]), np.cumsum(self.normal[filled])

    def average_precision(self) -> float | None:
        """Area under the precision-recall curve as scikit-learn defines it; None without abnormal pixels."""
        true, false = self._cumulated()
        if true.size == 0 or true[-1] == 0:
            return None
        precision = true / (true + false)
        return float(np.sum(np.diff(true, prepend=0) / true[-1] * precision))

    def best_dice(self) -> float | None:
        """The highest Dice any one threshold reaches over all pixels pooled: an upper bound, chosen on the truth."""
        true, false = self._cumulated()
        if true.size == 0 or true[-1] == 0:
            return None
        return float(np.max(2 * true / (true + false + true[-1])))

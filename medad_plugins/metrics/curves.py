"""Areas under ROC, precision-recall and PRO curves from counts per threshold, for many replicates at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["area_to_limit", "average_precision", "best_dice"]

# Shapes: (..., T) with thresholds falling along the last axis. A curve with nothing under it (no positive, no negative)
# is NaN. Only thresholds at which a positive turns up have to be given: no other changes any of these figures.


def area_to_limit(gains: NDArray, before: NDArray, after: NDArray, limit: float = 1.0) -> NDArray[np.float64]:
    """Area under a curve from 0 to ``limit``, divided by ``limit``, by trapezoids; NaN where an input is.

    Each gain lifts the curve for all that lies right of it: by its full height right of ``after``, by half of it on
    average between ``before`` and ``after``.

    Args:
        gains: rise of the curve at each threshold, ``(..., T)``, as a fraction of its final height.
        before: abscissa (false-positive rate, 0..1) just above each threshold, ``(..., T)``.
        after: abscissa at each threshold, ``(..., T)``.
        limit: right end, in (0, 1]: 1 gives the AUROC, 0.3 the usual AUPRO.

    Returns:
        Areas ``(...)``, 0..1.
    """
    if limit >= 1:
        return np.sum(gains * (1 - (before + after) / 2), axis=-1)
    width = after - before
    inside = np.minimum(after, limit) - np.minimum(before, limit)
    ramp = np.divide(inside, width, out=np.ones_like(width), where=width > 0)
    # the ramp within the limit is a triangle of base `inside` and height `ramp`, then comes its flat continuation
    lifted = ramp * inside / 2 + np.maximum(limit - after, 0)
    return np.sum(gains * lifted, axis=-1) / limit


def average_precision(positives: NDArray, negatives_until: NDArray) -> NDArray[np.float64]:
    """Average precision as scikit-learn defines it: precision at each threshold, weighted by the recall it adds.

    Args:
        positives: positives at each threshold, ``(..., T)``.
        negatives_until: negatives at or above each threshold, ``(..., T)``.

    Returns:
        ``(...)``, 0..1; NaN without a positive.
    """
    found = np.cumsum(positives, axis=-1)
    precision = np.divide(found, found + negatives_until, out=np.zeros_like(found), where=found > 0)
    with np.errstate(invalid="ignore"):
        return np.sum(positives * precision, axis=-1) / positives.sum(axis=-1)


def best_dice(positives: NDArray, negatives_until: NDArray) -> NDArray[np.float64]:
    """Highest Dice (F1) that any one threshold reaches; arguments and result as in `average_precision`."""
    found = np.cumsum(positives, axis=-1)
    total = positives.sum(axis=-1)
    size = found + negatives_until + total[..., None]
    values = np.divide(2 * found, size, out=np.zeros_like(found), where=size > 0)
    best = values.max(axis=-1, initial=0.0)
    return np.where(total > 0, best, np.nan)

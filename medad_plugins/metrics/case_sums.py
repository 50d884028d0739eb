"""What is summed over cases beside the counts of their pixels: lesions found, false findings, overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medad_plugins.metrics.lesions import Lesions, false_components

__all__ = ["case_record", "flat", "record_type", "summed_figures"]


def record_type(n_sizes: int, n_thresholds: int) -> np.dtype:
    """A case's numbers, or their sums over cases, all float64; classes of lesion size S, thresholds T."""
    per_size, float64 = (n_sizes,), np.float64
    return np.dtype(
        [
            ("cases", float64),
            ("outlined", float64, per_size),  # 1 for the size of the case's largest lesion
            ("lesions", float64, per_size),
            ("found", float64, (n_thresholds, n_sizes)),  # lesions with a pixel above the threshold
            ("false_components", float64, (n_thresholds,)),
            ("lesion_pixels", float64, per_size),
            ("true_pixels", float64, per_size),  # lesion pixels above the pixel threshold
            ("false_pixels", float64),  # normal pixels above it
            ("marked_share", float64),  # of the case's pixels, those above it
            ("dice", float64, per_size),  # of the case, under the size of its largest lesion
            ("iou", float64, per_size),
        ]
    )


def flat(records: NDArray) -> NDArray[np.float64]:
    """Records ``(...)`` as plain numbers ``(..., fields)`` that share their memory."""
    return records.view(np.float64).reshape(*records.shape, -1)


def case_record(
    dtype: np.dtype,
    anomaly_map: NDArray,
    truth: NDArray[np.bool_] | None,
    lesions: Lesions,
    size_class: NDArray[np.intp],
    thresholds: Sequence[float],
    pixel_threshold: float | None,
) -> NDArray:
    """The numbers of one case; `thresholds` are those of lesions, see `record_type`."""
    record = np.zeros(1, dtype)
    sums: Any = record[0]
    n_sizes = sums["lesions"].size
    inside = anomaly_map[truth] if truth is not None else anomaly_map[:0].reshape(-1)
    highest = lesions.highest(inside)
    sums["cases"] = 1
    sums["lesions"] = np.bincount(size_class, minlength=n_sizes)
    sums["lesion_pixels"] = np.bincount(size_class, weights=lesions.sizes, minlength=n_sizes)
    for index, threshold in enumerate(thresholds):
        sums["found"][index] = np.bincount(size_class[highest > threshold], minlength=n_sizes)
    sums["false_components"] = false_components(anomaly_map, truth, thresholds)
    largest = size_class.max() if size_class.size else None
    if largest is not None:
        sums["outlined"][largest] = 1
    if pixel_threshold is not None:
        hit = inside > pixel_threshold
        flagged = int(np.count_nonzero(anomaly_map > pixel_threshold))
        true = int(np.count_nonzero(hit))
        sums["true_pixels"] = np.bincount(size_class[lesions.owner[hit]], minlength=n_sizes)
        sums["false_pixels"] = flagged - true
        sums["marked_share"] = flagged / anomaly_map.size
        if largest is not None:
            sums["dice"][largest] = 2 * true / (flagged + inside.size)
            sums["iou"][largest] = true / (flagged + inside.size - true)
    return record


def _ratio(above: NDArray, below: NDArray) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below > 0)


def summed_figures(sums: NDArray, size: int | None, *, decided: bool) -> dict[str, NDArray[np.float64]]:
    """Figures at the pixel threshold from sums of records ``(replicates,)``, each ``(replicates,)``.

    Args:
        sums: of type `record_type`, with the pixel threshold first among the thresholds.
        size: class of lesion size, None for all.
        decided: whether there is a pixel threshold; all figures are NaN without.
    """

    def total(name: str) -> NDArray[np.float64]:
        return sums[name].sum(axis=-1) if size is None else sums[name][..., size]

    true, lesion, false = total("true_pixels"), total("lesion_pixels"), sums["false_pixels"]
    outlined = total("outlined")
    found = total("found")
    figures = {
        "dice_case_mean": _ratio(total("dice"), outlined),
        "dice_pooled": _ratio(2 * true, np.where(lesion > 0, true + false + lesion, 0)),
        "iou_case_mean": _ratio(total("iou"), outlined),
        "iou_pooled": _ratio(true, np.where(lesion > 0, false + lesion, 0)),
        "lesion_sensitivity": _ratio(found[:, 0], total("lesions")) if decided else np.zeros_like(false),
    }
    if not decided:
        figures = {name: np.full_like(false, np.nan) for name in figures}
    return figures

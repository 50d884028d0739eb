"""Figures of localization of maps that are all there, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medad_plugins.metrics.curves import area_to_limit, average_precision, best_dice
from medad_plugins.metrics.lesions import find_lesions

__all__ = ["compute_aupro", "compute_pixel_metrics"]


def compute_pixel_metrics(maps: Sequence[ArrayLike] | NDArray, masks: Sequence[ArrayLike] | NDArray) -> dict[str, Any]:
    """Pixel AUROC, average precision and best Dice of all cases pooled, exactly, by sorting the values once.

    For cases that do not fit in memory together there is `LocalizationMetric`.

    Args:
        maps: anomaly maps ``(N, *spatial)``, or a list of ``(*spatial)``, whose shapes may differ.
        masks: lesion where not 0, of the same shapes.

    Returns:
        ``pixel_auroc``, ``pixel_ap`` and ``best_dice_pooled`` (the highest of any threshold, an upper bound); None
        where there is no lesion pixel or, for the AUROC, no normal one.

    Raises:
        ValueError: maps and masks differ in number or shape, or a map has a NaN or infinite value.

    Example:
        >>> maps, masks = np.array([[[0.1, 0.8], [0.3, 0.9]]]), np.array([[[0, 0], [1, 1]]])
        >>> compute_pixel_metrics(maps, masks)
        {'pixel_auroc': 0.75, 'pixel_ap': 0.8333..., 'best_dice_pooled': 0.8}
    """
    ranked = _Ranked(*_pooled(maps, masks))
    positives, until = ranked.positives, ranked.until
    some = positives.size > 0
    return {
        "pixel_auroc": ranked.area(positives / ranked.n_lesion) if some else None,
        "pixel_ap": float(average_precision(positives, until)) if some else None,
        "best_dice_pooled": float(best_dice(positives, until)) if some else None,
    }


class _Ranked:
    """Lesion and normal pixels above each value of a lesion pixel, exactly, by sorting the values once.

    Attributes:
        positives: lesion pixels at each distinct value, from the highest.
        above: normal pixels above it.
        until: normal pixels at or above it.
    """

    def __init__(self, values: NDArray, truth: NDArray[np.bool_]) -> None:
        self.lesion_values = values[truth]
        rising = np.sort(values)  # NaN comes last
        if values.size and not np.isfinite(rising[[0, -1]]).all():
            raise ValueError("a map has NaN or infinite values")
        thresholds, counts = np.unique(self.lesion_values, return_counts=True)
        self.thresholds, self.positives = thresholds[::-1], counts[::-1].astype(np.float64)
        found = np.cumsum(self.positives)
        self.until = values.size - np.searchsorted(rising, self.thresholds, side="left") - found
        self.above = values.size - np.searchsorted(rising, self.thresholds, side="right") - (found - self.positives)
        self.n_lesion = self.lesion_values.size
        self.n_normal = values.size - self.n_lesion

    def area(self, gains: NDArray, limit: float = 1.0) -> float | None:
        """Area under a curve against the false-positive rate, see `area_to_limit`; None without normal pixels."""
        if not self.n_normal:
            return None
        return float(area_to_limit(gains, self.above / self.n_normal, self.until / self.n_normal, limit))


def compute_aupro(
    maps: Sequence[ArrayLike] | NDArray, masks: Sequence[ArrayLike] | NDArray, limit: float = 0.3
) -> float | None:
    """Area under per-lesion recall, averaged over lesions, against the pixels' false-positive rate up to ``limit``.

    Computed exactly, by sorting the values once. Divided by the limit, so that 1 is perfect (Bergmann et al. 2020,
    "Uninformed students"). A lesion is a connected component of a mask with full connectivity. None without a lesion or
    without a normal pixel.

    Args:
        maps: anomaly maps ``(N, *spatial)``, or a list of ``(*spatial)``, whose shapes may differ.
        masks: lesion where not 0, of the same shapes.
        limit: highest false-positive rate, in (0, 1].

    Raises:
        ValueError: as `compute_pixel_metrics`, or the limit is not in (0, 1].

    Example:
        >>> masks = np.zeros((1, 8, 8), dtype=bool)
        >>> masks[0, :2, :2] = masks[0, 6:, 6:] = True  # two lesions
        >>> maps = masks.astype(float)
        >>> maps[0, 6:, 6:] = -1  # the second one is lower than all else
        >>> compute_aupro(masks, masks), compute_aupro(maps, masks)
        (1.0, 0.5)
    """
    if not 0 < limit <= 1:
        raise ValueError(f"the limit is a false-positive rate in (0, 1], got {limit}")
    ranked = _Ranked(*_pooled(maps, masks))
    lesions = [find_lesions(np.asarray(mask).astype(bool, copy=False)) for mask in masks]
    sizes = [case.sizes for case in lesions if case.sizes.size]
    if not sizes:
        return None
    weights = np.concatenate([1 / case.sizes[case.owner] for case in lesions])
    place = ranked.thresholds.size - 1 - np.searchsorted(ranked.thresholds[::-1], ranked.lesion_values)
    gains = np.bincount(place, weights, minlength=ranked.thresholds.size)
    return ranked.area(gains / sum(case.size for case in sizes), limit)


def _pairs(
    maps: Sequence[ArrayLike] | NDArray, masks: Sequence[ArrayLike] | NDArray
) -> list[tuple[NDArray, NDArray[np.bool_]]]:
    """Maps with their masks."""
    if len(maps) != len(masks):
        raise ValueError(f"as many maps as masks: got {len(maps)}, {len(masks)}")
    pairs = [(np.asarray(case), np.asarray(mask).astype(bool, copy=False)) for case, mask in zip(maps, masks)]
    for anomaly_map, mask in pairs:
        if anomaly_map.shape != mask.shape:
            raise ValueError(f"map {anomaly_map.shape} and mask {mask.shape} differ in shape")
    return pairs


def _pooled(
    maps: Sequence[ArrayLike] | NDArray, masks: Sequence[ArrayLike] | NDArray
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Pixels of all cases and whether each is of a lesion, without a copy where they are one array already."""
    if isinstance(maps, np.ndarray) and isinstance(masks, np.ndarray) and maps.shape == masks.shape:
        return maps.reshape(-1), masks.astype(bool, copy=False).reshape(-1)
    pairs = _pairs(maps, masks)
    values = np.concatenate([anomaly_map.reshape(-1) for anomaly_map, _ in pairs] or [np.zeros(0)])
    return values, np.concatenate([mask.reshape(-1) for _, mask in pairs] or [np.zeros(0, dtype=bool)])

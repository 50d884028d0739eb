"""The figures of localization, with intervals, from sums over cases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medad_plugins.metrics.case_sums import flat, summed_figures
from medad_plugins.metrics.pixel_counts import PixelCurves
from medad_plugins.metrics.poisson_bootstrap import percentile_interval
from medad_plugins.metrics.value_bins import ValueBins

__all__ = ["LocalizationSums", "localization_figures"]


@dataclass(frozen=True)
class LocalizationSums:
    """All that the figures are made from.

    Attributes:
        pixels: curves of the data at full precision, one replicate.
        bins: the coarse bins.
        counts: coarse counts of normal and of abnormal cases, ``(1 + R, rows, capacity)`` each; the first is the data.
        records: `case_sums` of normal and of abnormal cases, ``(2, 1 + R)``.
        resampled: whether the replicates say anything: no kind of case has all its cases from one group.
    """

    pixels: PixelCurves
    bins: ValueBins
    counts: tuple[NDArray, NDArray]
    records: NDArray
    resampled: bool


def localization_figures(
    sums: LocalizationSums,
    *,
    froc_thresholds: Sequence[float],
    lesion_sizes: Sequence[float],
    decided: bool,
    aupro_limit: float,
) -> dict[str, Any]:
    """The figures that `LocalizationMetric` describes.

    Args:
        sums: what to make them from.
        froc_thresholds: the last thresholds of the records.
        lesion_sizes: bounds between the classes of size.
        decided: whether a pixel threshold stands before them.
        aupro_limit: in (0, 1].
    """
    scales = _scales(sums.records["cases"])
    total, coarse = _rescaled(sums, scales)

    def of_size(size: int | None) -> dict[str, Any]:
        lesions = total["lesions"].sum(axis=-1) if size is None else total["lesions"][:, size]
        here = total["lesions"][0].sum() if size is None else total["lesions"][0, size]
        fine = _pixel_figures(sums.pixels, lesions[:1], aupro_limit, size)
        replicates = fine if coarse is None else _pixel_figures(coarse, lesions, aupro_limit, size)
        figures: dict[str, Any] = {"n_lesions": round(float(here))}
        for name, values in fine.items():
            figures.update(_with_interval(name, replicates[name], sums.resampled, float(values[0])))
        for name, values in summed_figures(total, size, decided=decided).items():
            figures.update(_with_interval(name, values, sums.resampled))
        return figures

    bounds: list[float | None] = [1, *lesion_sizes, None]
    sizes = [{"from": low, "to": high, **of_size(i)} for i, (low, high) in enumerate(itertools.pairwise(bounds))]
    figures = {"n_masked": round(float(sums.records["cases"][1, 0])), **of_size(None), "aupro_limit": aupro_limit}
    figures.update(_false_positives(sums.records, total, scales, decided, sums.resampled))
    best, dice = figures["best_dice_pooled"], figures["dice_case_mean"]
    figures["dice_share_of_best"] = dice / best if best and dice is not None else None
    figures["froc"] = _froc(total, froc_thresholds, int(decided), sums.resampled)
    figures["by_lesion_size"] = sizes
    return figures


def _scales(cases: NDArray) -> NDArray[np.float64]:
    """What brings each replicate to as many normal and abnormal cases as the data, ``(2, 1 + R)``; NaN if it has none.

    A kind of case that the data lacks too is no reason for NaN.
    """
    target = cases[:, :1]
    scales = np.divide(target, cases, out=np.full(cases.shape, np.nan), where=cases > 0)
    scales[target[:, 0] == 0] = 0
    scales[:, np.isnan(scales).any(axis=0)] = np.nan
    return scales


def _rescaled(sums: LocalizationSums, scales: NDArray) -> tuple[NDArray, PixelCurves | None]:
    total = np.zeros(sums.records.shape[1], sums.records.dtype)
    flat(total)[...] = (flat(sums.records) * scales[..., None]).sum(axis=0)
    if total.size == 1:
        return total, None
    normal, abnormal = (sums.counts[i] * scales[i].astype(np.float32)[:, None, None] for i in (0, 1))
    abnormal[:, :1] += normal
    return total, PixelCurves(abnormal, sums.bins)


def _pixel_figures(curves: PixelCurves, lesions: NDArray, limit: float, size: int | None) -> dict[str, NDArray]:
    return {
        "pixel_auroc": curves.auroc(size),
        "pixel_ap": curves.average_precision(size),
        "best_dice_pooled": curves.best_dice(size),
        "aupro": curves.aupro(lesions, limit, size),
    }


def _with_interval(
    name: str, values: NDArray, resampled: bool, estimate: float | None = None, highest: float = 1.0
) -> dict[str, Any]:
    """A figure and its interval from the data's own value and those of the replicates."""
    figure = float(values[0]) if estimate is None else estimate
    interval = percentile_interval(values, figure, highest) if resampled else None
    return {name: figure if np.isfinite(figure) else None, f"{name}_95ci": interval}


def _per_case(components: NDArray, cases: NDArray) -> NDArray[np.float64]:
    return np.divide(components, cases, out=np.full(cases.shape, np.nan), where=cases > 0)


def _false_positives(
    records: NDArray, total: NDArray, scales: NDArray, decided: bool, resampled: bool
) -> dict[str, Any]:
    undefined = np.full(total.shape, np.nan)
    everywhere = of_normals = marked = undefined
    if decided:
        everywhere = _per_case(total["false_components"][:, 0], total["cases"])
        of_normals = _per_case(records["false_components"][0, :, 0], records["cases"][0])
        marked = _per_case(records["marked_share"][0], records["cases"][0])
    return {
        **_with_interval("false_positives_per_case", everywhere, resampled, highest=np.inf),
        **_with_interval("false_positives_per_normal_case", of_normals, resampled, highest=np.inf),
        **_with_interval("marked_share_of_normal_case", marked, resampled),
    }


def _froc(total: NDArray, thresholds: Sequence[float], first: int, resampled: bool) -> dict[str, list[Any]] | None:
    """Lesion sensitivity against false positives per case at each threshold; None without thresholds."""
    if not thresholds:
        return None
    lesions = total["lesions"].sum(axis=-1)
    froc: dict[str, list[Any]] = {"thresholds": list(thresholds)}
    for index in range(first, first + len(thresholds)):
        found = total["found"][:, index].sum(axis=-1)
        false = _per_case(total["false_components"][:, index], total["cases"])
        points = _with_interval("lesion_sensitivity", _per_case(found, lesions), resampled)
        points.update(_with_interval("false_positives_per_case", false, resampled, highest=np.inf))
        for name, value in points.items():
            froc.setdefault(name, []).append(value)
    return froc

"""How well anomaly maps find the pixels and lesions of abnormal cases, in memory that does not grow with the cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from numpy.typing import ArrayLike, NDArray

from medad_plugins.metrics.case_sums import case_record, flat, record_type
from medad_plugins.metrics.lesions import find_lesions
from medad_plugins.metrics.localization_figures import LocalizationSums, localization_figures
from medad_plugins.metrics.pixel_counts import PixelCounts, count_case, counted_rows
from medad_plugins.metrics.poisson_bootstrap import BinnedReplicates, group_number, poisson_weights
from medad_plugins.metrics.rank_sum import agree_on_bins, reduce_over_ranks
from medad_plugins.metrics.value_bins import ValueBins

__all__ = ["LocalizationMetric"]

_COARSE_BINS = 1 << 11
_NORMAL, _ABNORMAL = 0, 1


class LocalizationMetric(CumulativeIterationMetric):
    """Pixel-wise and lesion-wise figures of anomaly maps, with 95 % intervals, for 2D and 3D, streamed.

    Pixels (voxels) of all cases are pooled. A lesion is a connected component of a case's mask, neighbours being those
    that share an edge, a corner or, in 3D, a face. It is found at a threshold if the map is above it in any of its
    pixels. A false positive is a connected component of what is above the threshold that touches no lesion. A case
    without a lesion is normal; leave out abnormal cases that nobody outlined.

    Figures (None where the data cannot give them; each with ``<name>_95ci``, ``[low, high]``, except counts):

    - ``n_masked``, ``n_lesions``: abnormal cases, and lesions;
    - ``pixel_auroc``, ``pixel_ap``: areas under the ROC and the precision-recall curve (as scikit-learn's);
    - ``best_dice_pooled``: highest Dice that any one threshold reaches, chosen on the truth: an upper bound;
    - ``aupro``: area under per-lesion recall, averaged over lesions, against the false-positive rate of pixels, up to
      ``aupro_limit`` (Bergmann et al. 2020);
    - at ``pixel_threshold`` (a pixel is marked where map > threshold): ``dice_case_mean``, ``iou_case_mean`` (mean over
      abnormal cases), ``dice_pooled``, ``iou_pooled`` (all pixels of all cases as one), ``lesion_sensitivity``,
      ``false_positives_per_case`` (all cases), ``false_positives_per_normal_case``, ``marked_share_of_normal_case``
      (mean share of a normal case's pixels) and ``dice_share_of_best`` (``dice_case_mean`` over ``best_dice_pooled``);
    - ``froc``: ``thresholds`` as given, ``lesion_sensitivity`` and ``false_positives_per_case`` at each;
    - ``by_lesion_size``: the figures for lesions of ``from`` up to below ``to`` pixels against all normal pixels, with
      the pixels of other lesions left out. A case's own Dice counts under the size of its largest lesion.

    Areas come from bins of the values (`ValueBins`): relative error below 1e-4 from about a hundred thousand pixels on,
    exact where maps have few distinct values. Intervals come from a Poisson bootstrap of whole groups, stratified by
    normal and abnormal cases, on coarser bins. Everything kept is a sum, about 50 MiB with the default settings, and
    does not depend on the order of the cases nor on their split over batches, merged metrics or ranks (up to rounding).

    Args:
        pixel_threshold: calibrated threshold of the map; None leaves the figures that need it None.
        froc_thresholds: thresholds of the FROC curve, in the map's units.
        aupro_limit: highest false-positive rate of AUPRO, in (0, 1].
        lesion_sizes: rising bounds between classes of lesion size, in pixels or voxels.
        resamples: bootstrap replicates; 0 for no intervals.
        seed: of the bootstrap.

    Example:
        >>> mask = np.zeros((32, 32), dtype=bool)
        >>> mask[8:12, 8:12] = True
        >>> metric = LocalizationMetric(pixel_threshold=0.5, resamples=0)
        >>> metric.update(mask * 0.9, mask, group="patient 1")
        >>> metric.update(np.zeros((32, 32)), None, group="patient 2")
        >>> figures = metric.aggregate()
        >>> figures["n_lesions"], figures["pixel_auroc"], figures["dice_case_mean"]
        (1, 1.0, 1.0)
    """

    def __init__(
        self,
        pixel_threshold: float | None = None,
        *,
        froc_thresholds: Sequence[float] = (),
        aupro_limit: float = 0.3,
        lesion_sizes: Sequence[float] = (71, 570),
        resamples: int = 200,
        seed: int = 0,
    ) -> None:
        if not 0 < aupro_limit <= 1:
            raise ValueError(f"aupro_limit is a false-positive rate in (0, 1], got {aupro_limit}")
        if list(lesion_sizes) != sorted(set(lesion_sizes)):
            raise ValueError(f"lesion_sizes are rising, got {list(lesion_sizes)}")
        self.pixel_threshold = None if pixel_threshold is None else float(pixel_threshold)
        self.froc_thresholds = [float(threshold) for threshold in froc_thresholds]
        self.aupro_limit, self.lesion_sizes = float(aupro_limit), [float(size) for size in lesion_sizes]
        self.resamples, self.seed = resamples, seed
        super().__init__()

    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        n_sizes = len(self.lesion_sizes) + 1
        self._pixels = PixelCounts(n_sizes, by_lesion=True)
        self._coarse = ValueBins(_COARSE_BINS, prefix_bits=20)
        rows = (1, counted_rows(n_sizes))
        self._replicates = [BinnedReplicates(self._coarse, row, self.resamples) for row in rows]
        thresholds = self._thresholds()
        self._sums = np.zeros((2, 1 + self.resamples), record_type(n_sizes, len(thresholds)))
        # lowest and highest number of the groups of each kind of case: whether there are at least two
        self._groups = np.array([[np.iinfo(np.int64).max, -1]] * 2, dtype=np.int64)

    def _thresholds(self) -> list[float]:
        return [threshold for threshold in [self.pixel_threshold] if threshold is not None] + self.froc_thresholds

    def update(
        self, anomaly_map: ArrayLike, truth: ArrayLike | None, group: str, pixel_threshold: float | None = None
    ) -> None:
        """Add a case.

        Args:
            anomaly_map: ``(*spatial)``, higher is more abnormal.
            truth: mask of the same shape, lesion where not 0; None (or nothing set) for a normal case.
            group: patient, or case where patients are not known; cases of a group are drawn together.
            pixel_threshold: of this case, where each has its own; None takes the metric's.

        Raises:
            ValueError: map and mask differ in shape, or the map has a NaN or infinite value.
        """
        values = np.asarray(anomaly_map)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(values, dtype=np.float32)
        mask = None if truth is None else np.asarray(truth) != 0
        if mask is not None and mask.shape != values.shape:
            raise ValueError(f"the map {values.shape} and the mask {mask.shape} of {group} differ in shape")
        if not np.isfinite(values).all():
            raise ValueError(f"the map of {group} has NaN or infinite values")
        mask = mask if mask is not None and mask.any() else None
        if pixel_threshold is not None and self.pixel_threshold is None:
            raise ValueError("a case's own pixel_threshold needs a metric with one")
        self._add(values, mask, group_number(group), pixel_threshold)

    def _add(
        self, values: NDArray[np.float32], truth: NDArray[np.bool_] | None, group: int, own: float | None = None
    ) -> None:
        stratum = _NORMAL if truth is None else _ABNORMAL
        lesions = find_lesions(np.zeros(values.shape, dtype=bool) if truth is None else truth)
        size_class = np.digitize(lesions.sizes, self.lesion_sizes)
        inside = values[:0].reshape(-1) if truth is None else values[truth]
        count_case(self._pixels.bins, self._pixels.sums, values, inside, lesions, size_class)
        weights = poisson_weights(group, self.resamples, self.seed)
        if self.resamples:
            rows = self._replicates[stratum].case(weights)
            count_case(self._coarse, rows, values, inside, lesions, size_class)
        threshold = self.pixel_threshold if own is None else own
        thresholds = [*([] if threshold is None else [threshold]), *self.froc_thresholds]
        record = case_record(self._sums.dtype, values, truth, lesions, size_class, thresholds, threshold)
        flat(self._sums)[stratum] += weights[:, None] * flat(record)
        low, high = self._groups[stratum]
        self._groups[stratum] = min(low, group), max(high, group)

    def __call__(  # type: ignore[override]
        self, y_pred: Iterable[Any], y: Iterable[Any] | None = None, groups: Sequence[str] | None = None
    ) -> None:
        """Add a batch.

        Args:
            y_pred: anomaly maps ``(B, 1, *spatial)``, or a list of ``(1, *spatial)``.
            y: masks of the same shapes; None for normal cases.
            groups: see `update`; None makes each case a group of its own, known by its map.
        """
        maps = [_channel(case) for case in y_pred]
        masks: Sequence[NDArray | None] = [None] * len(maps) if y is None else [_channel(case) for case in y]
        if len(masks) != len(maps) or (groups is not None and len(groups) != len(maps)):
            raise ValueError(f"as many maps, masks and groups: got {len(maps)}, {len(masks)}, {groups}")
        for index, (values, mask) in enumerate(zip(maps, masks)):
            self.update(values, mask, groups[index] if groups is not None else _name_of(values))

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        self(y_pred, y, **kwargs)
        return y_pred

    def merge(self, other: LocalizationMetric) -> None:
        """Add the cases of another metric with the same settings."""
        if self._settings() != other._settings():
            raise ValueError(f"metrics of other settings cannot be merged: {self._settings()}, {other._settings()}")
        self._flush()
        other._flush()
        self._pixels.bins.absorb(other._pixels.bins)
        self._coarse.absorb(other._coarse)
        flat(self._sums)[...] += flat(other._sums)
        self._groups[:, 0] = np.minimum(self._groups[:, 0], other._groups[:, 0])
        self._groups[:, 1] = np.maximum(self._groups[:, 1], other._groups[:, 1])

    def _settings(self) -> tuple[object, ...]:
        lists = (self._thresholds(), self.lesion_sizes)
        return (self.pixel_threshold, *lists, self.aupro_limit, self.resamples, self.seed)

    def _flush(self) -> None:
        for replicates in self._replicates:
            replicates.sums()

    def _over_ranks(self) -> LocalizationMetric:
        """A metric of the cases of all ranks; this one keeps its own."""
        if idist.get_world_size() == 1:
            return self
        common = LocalizationMetric(
            self.pixel_threshold,
            froc_thresholds=self.froc_thresholds,
            aupro_limit=self.aupro_limit,
            lesion_sizes=self.lesion_sizes,
            resamples=self.resamples,
            seed=self.seed,
        )
        pairs = ((self._pixels.bins, common._pixels.bins), (self._coarse, common._coarse))
        for own, agreed in pairs:
            agree_on_bins(own, agreed)
        common.merge(self)
        for array in (*common._pixels.bins.arrays, *common._coarse.arrays, flat(common._sums)):
            reduce_over_ranks(array)
        reduce_over_ranks(common._groups[:, 0], "MIN")
        reduce_over_ranks(common._groups[:, 1], "MAX")
        return common

    def aggregate(self) -> dict[str, Any]:
        """The figures of all cases so far, over all ranks where there are several."""
        merged = self._over_ranks()
        normal, abnormal = (replicates.sums() for replicates in merged._replicates)
        one_group = merged._groups[:, 0] == merged._groups[:, 1]
        sums = LocalizationSums(
            merged._pixels.curves(), merged._coarse, (normal, abnormal), merged._sums, not one_group.any()
        )
        return localization_figures(
            sums,
            froc_thresholds=self.froc_thresholds,
            lesion_sizes=self.lesion_sizes,
            decided=self.pixel_threshold is not None,
            aupro_limit=self.aupro_limit,
        )


def _channel(case: Any) -> NDArray:
    array = case.detach().cpu().numpy() if isinstance(case, torch.Tensor) else np.asarray(case)
    if array.ndim < 2 or array.shape[0] != 1:
        raise ValueError(f"a case is (1, *spatial), got {array.shape}")
    return array[0]


def _name_of(values: NDArray) -> str:
    """A name that a map has wherever it turns up."""
    thinned = values.reshape(-1)[:: max(1, values.size // 4096)]
    return np.ascontiguousarray(thinned).tobytes().hex()

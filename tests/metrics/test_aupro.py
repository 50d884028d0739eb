"""AUPRO against a loop over all thresholds and lesions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from medad_plugins.metrics import LocalizationMetric, compute_aupro
from medad_plugins.metrics.curves import area_to_limit


def _by_loop(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """Trapezoids between all thresholds, every lesion by itself; the last one is cut at the limit."""
    points = [(0.0, 0.0)]
    lesions = []
    for index, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
        lesions += [(index, labels == number) for number in range(1, count + 1)]
    for threshold in np.unique(maps)[::-1]:
        marked = maps >= threshold
        recall = np.mean([marked[index][lesion].mean() for index, lesion in lesions])
        points.append((marked[~masks].mean(), float(recall)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def _streamed(maps: np.ndarray, masks: np.ndarray, limit: float) -> float:
    metric = LocalizationMetric(aupro_limit=limit, resamples=0)
    for index, (anomaly_map, truth) in enumerate(zip(maps, masks)):
        metric.update(anomaly_map, truth, str(index))
    return float(metric.aggregate()["aupro"])


def _cases(dims: int, decimals: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(dims)
    shape = (4, 20, 18) if dims == 2 else (2, 9, 10, 11)
    masks = np.zeros(shape, dtype=bool)
    masks[0, 2:6, 3:5] = masks[0, 8:9, 8:9] = masks[1, 1:8, 1:8] = True
    masks[0, 6, 5] = True  # touches the first one by a corner
    maps = np.round(random.normal(size=shape) + 1.2 * masks, decimals)
    return maps.astype(np.float32), masks


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [1, 6])
@pytest.mark.parametrize("dims", [2, 3])
def test_aupro_equals_the_loop_over_all_thresholds(dims: int, decimals: int, limit: float) -> None:
    maps, masks = _cases(dims, decimals)
    expected = _by_loop(maps, masks, limit)
    assert compute_aupro(maps, masks, limit) == pytest.approx(expected, rel=1e-9)
    # with one decimal each value has its own bin
    assert _streamed(maps, masks, limit) == pytest.approx(expected, rel=1e-9 if decimals == 1 else 1e-4)


def test_a_lesion_weighs_the_same_whatever_its_size() -> None:
    mask = np.zeros((1, 20, 20), dtype=bool)
    mask[0, :10, :10] = mask[0, 15, 15] = True
    found_large, found_small = np.zeros((2, 1, 20, 20))
    found_large[0, :10, :10] = found_small[0, 15, 15] = 1
    # half of the lesions at no false positive, the other half as fast as chance
    expected = 0.5 + 0.5 * 0.3 / 2
    assert compute_aupro(found_large, mask) == pytest.approx(expected)
    assert compute_aupro(found_small, mask) == pytest.approx(expected)


def test_bounds_and_what_cannot_be_given() -> None:
    mask = np.zeros((1, 10, 10), dtype=bool)
    mask[0, 2:4, 2:4] = True
    assert compute_aupro(mask.astype(float), mask) == pytest.approx(1.0)
    assert compute_aupro(-mask.astype(float), mask) == 0.0
    assert compute_aupro(np.ones((1, 10, 10)), mask) == pytest.approx(0.15)  # the chance diagonal up to 0.3
    assert compute_aupro(np.ones((1, 10, 10)), np.zeros((1, 10, 10))) is None
    assert compute_aupro(np.ones((1, 10, 10)), np.ones((1, 10, 10))) is None
    with pytest.raises(ValueError, match="limit"):
        compute_aupro(mask.astype(float), mask, limit=0)


def test_the_area_up_to_the_limit_is_that_of_the_drawn_curve() -> None:
    gains = np.array([0.5, 0.5])
    before, after = np.array([0.1, 0.2]), np.array([0.1, 0.6])
    # 0 up to 0.1, 0.5 up to 0.2, then rising to 1 at 0.6: at 0.4 it is 0.75
    assert area_to_limit(gains, before, after, 0.4) == pytest.approx((0.05 + 0.2 * (0.5 + 0.75) / 2) / 0.4)

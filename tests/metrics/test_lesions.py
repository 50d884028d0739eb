"""Lesions and false findings as connected components."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medad_plugins.metrics.lesions import false_components, find_lesions


def _false_by_loop(anomaly_map: np.ndarray, truth: np.ndarray, threshold: float) -> int:
    labels, count = ndimage.label(anomaly_map > threshold, structure=np.ones((3,) * truth.ndim))
    return sum(not truth[labels == number].any() for number in range(1, count + 1))


@pytest.mark.parametrize("shape", [(40, 30), (14, 15, 16)])
def test_false_findings_equal_a_loop_over_components(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    truth = ndimage.gaussian_filter(random.normal(size=shape), 2) > 0.1
    anomaly_map = ndimage.gaussian_filter(random.normal(size=shape), 1) + 0.1 * truth
    thresholds = [float(np.quantile(anomaly_map, q)) for q in (0.99, 0.5, 0.9, 0.0)] + [1e9]
    expected = [_false_by_loop(anomaly_map, truth, threshold) for threshold in thresholds]
    assert false_components(anomaly_map, truth, thresholds).tolist() == expected
    nothing = np.zeros(shape, dtype=bool)
    expected = [_false_by_loop(anomaly_map, nothing, threshold) for threshold in thresholds]
    assert false_components(anomaly_map, None, thresholds).tolist() == expected
    assert max(expected) > 1


def test_lesions_that_touch_by_a_corner_are_one() -> None:
    truth = np.zeros((6, 6, 6), dtype=bool)
    truth[0, 0, 0] = truth[1, 1, 1] = True
    truth[4, 4, 3:6] = True
    lesions = find_lesions(truth)
    assert sorted(lesions.sizes.tolist()) == [2, 3]
    values = np.arange(truth.size, dtype=float).reshape(truth.shape)
    highest = {int(size): value for size, value in zip(lesions.sizes, lesions.highest(values[truth]))}
    assert highest == {2: values[1, 1, 1], 3: values[4, 4, 5]}


def test_an_empty_mask_has_no_lesion() -> None:
    lesions = find_lesions(np.zeros((4, 4), dtype=bool))
    assert lesions.sizes.size == 0
    assert lesions.highest(np.zeros(0)).size == 0

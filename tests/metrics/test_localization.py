"""Figures of pixels, streamed over cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from medad_plugins.metrics import PixelCounts, dice


def _case(random: np.random.RandomState, shift: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    truth = random.rand(24, 20) < 0.1
    values = (random.randn(24, 20) + 1.5 * truth + shift) * scale
    return values.astype(np.float32), truth


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (-30.0, 1.0), (5.0, 1e-6), (0.0, 1e6)])
def test_streamed_figures_equal_those_of_all_pixels_at_once(shift: float, scale: float) -> None:
    random = np.random.RandomState(0)
    cases = [_case(random, shift, scale) for _ in range(4)]
    counts = PixelCounts()
    for values, truth in cases:
        counts.update(values, truth)
    values = np.concatenate([values.ravel() for values, _ in cases])
    truth = np.concatenate([truth.ravel() for _, truth in cases])
    assert counts.average_precision() == pytest.approx(average_precision_score(truth, values), abs=3e-3)
    by_hand = max(dice(values >= threshold, truth) for threshold in np.unique(values)[::7])
    assert counts.best_dice() == pytest.approx(by_hand, abs=5e-3)


def test_ties_count_as_scikit_learn_counts_them() -> None:
    values = np.array([0.0, -0.0, 0.0, 1.0, 1.0, 2.0], dtype=np.float32)
    truth = np.array([0, 1, 0, 1, 0, 1], dtype=bool)
    counts = PixelCounts()
    counts.update(values, truth)
    assert counts.average_precision() == pytest.approx(average_precision_score(truth, values), abs=1e-12)


def test_order_of_cases_does_not_matter_and_a_normal_case_is_an_empty_mask() -> None:
    random = np.random.RandomState(1)
    values, truth = _case(random, 0, 1)
    normal = random.randn(24, 20).astype(np.float32)
    one, other = PixelCounts(), PixelCounts()
    one.update(values, truth)
    one.update(normal, None)
    other.update(normal, np.zeros((24, 20), dtype=bool))
    other.update(values, truth)
    assert np.array_equal(one.normal, other.normal)
    assert np.array_equal(one.abnormal, other.abnormal)
    assert one.normal.sum() + one.abnormal.sum() == 2 * 24 * 20


def test_without_abnormal_pixels_nothing_is_claimed() -> None:
    counts = PixelCounts()
    assert counts.average_precision() is None
    counts.update(np.ones((4, 4)), None)
    assert counts.average_precision() is None
    assert counts.best_dice() is None


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        PixelCounts().update(np.ones((4, 5)), np.ones((5, 4), dtype=bool))


def test_dice_by_hand() -> None:
    mask, truth = np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1])
    assert dice(mask, truth) == pytest.approx(2 / 5)
    assert dice(np.zeros(3), np.zeros(3)) == 1.0
    assert dice(np.ones(3), np.zeros(3)) == 0.0

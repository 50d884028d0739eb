"""AUROC, average precision and best Dice of pixels, against scikit-learn and loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from medad_plugins.metrics import PixelCounts, compute_pixel_metrics, dice


def _streamed(maps: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    pixels = PixelCounts()
    for anomaly_map, truth in zip(maps, masks):
        pixels.update(anomaly_map, truth)
    return {
        "pixel_auroc": pixels.auroc(),
        "pixel_ap": pixels.average_precision(),
        "best_dice_pooled": pixels.best_dice(),
    }


BOTH = pytest.mark.parametrize("figures_of", [compute_pixel_metrics, _streamed])
Figures = Callable[[np.ndarray, np.ndarray], dict[str, float | None]]


def _cases(shift: float, scale: float, tail: bool = False, dims: int = 2) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    shape = (6, *(48,) * dims) if dims == 2 else (3, 16, 20, 24)
    truth = np.zeros(shape, dtype=bool)
    truth[::2, 4:14, 6:13] = True
    noise = random.standard_cauchy(shape) if tail else random.normal(size=shape)
    return ((noise + 1.5 * truth) * scale + shift).astype(np.float32), truth


@pytest.mark.parametrize(
    ("shift", "scale", "tail", "dims"),
    [
        (0.0, 1.0, False, 2),
        (-30.0, 1.0, False, 2),
        (5.0, 1e-6, False, 2),
        (1000.0, 0.01, False, 2),
        (0.0, 1e6, True, 2),
        (0.0, 1.0, True, 3),
    ],
)
@BOTH
def test_figures_equal_scikit_learns_for_any_range(
    figures_of: Figures, shift: float, scale: float, tail: bool, dims: int
) -> None:
    maps, masks = _cases(shift, scale, tail, dims)
    figures = figures_of(maps, masks)
    exact = figures_of is compute_pixel_metrics
    truth, values = masks.ravel(), maps.ravel()
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(truth, values), rel=1e-12 if exact else 1e-4)
    assert figures["pixel_ap"] == pytest.approx(average_precision_score(truth, values), rel=1e-12 if exact else 1e-4)
    precision, recall, _ = precision_recall_curve(truth, values)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
    # one pixel more or less makes 4e-4 in so few
    assert figures["best_dice_pooled"] == pytest.approx(best, rel=1e-9 if exact else 5e-4 if tail else 1e-4)


@BOTH
def test_best_dice_is_the_best_of_all_thresholds(figures_of: Figures) -> None:
    maps, masks = _cases(0, 1)
    maps = np.round(maps, 1)
    by_hand = max(dice(maps >= threshold, masks) for threshold in np.unique(maps))
    assert figures_of(maps, masks)["best_dice_pooled"] == pytest.approx(by_hand, abs=1e-12)


@BOTH
def test_ties_count_as_scikit_learn_counts_them(figures_of: Figures) -> None:
    values = np.array([[0.0, -0.0, 0.0, 1.0, 1.0, 2.0]], dtype=np.float32)
    truth = np.array([[0, 1, 0, 1, 0, 1]], dtype=bool)
    figures = figures_of(values, truth)
    assert figures["pixel_ap"] == pytest.approx(average_precision_score(truth[0], values[0]), abs=1e-12)
    assert figures["pixel_auroc"] == pytest.approx(roc_auc_score(truth[0], values[0]), abs=1e-12)


@BOTH
def test_a_constant_map_knows_nothing(figures_of: Figures) -> None:
    truth = np.zeros((1, 8, 8), dtype=bool)
    truth[0, :2] = True
    figures = figures_of(np.full((1, 8, 8), 3.7), truth)
    assert figures["pixel_auroc"] == pytest.approx(0.5)
    assert figures["pixel_ap"] == pytest.approx(0.25)
    assert figures["best_dice_pooled"] == pytest.approx(2 * 16 / (64 + 16))


@BOTH
def test_what_one_class_of_pixels_cannot_give_is_none(figures_of: Figures) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 8, 8))
    nothing = figures_of(maps, np.zeros_like(maps))
    assert nothing == {"pixel_auroc": None, "pixel_ap": None, "best_dice_pooled": None}
    everything = figures_of(maps, np.ones_like(maps))
    assert everything == {"pixel_auroc": None, "pixel_ap": 1.0, "best_dice_pooled": 1.0}
    assert PixelCounts().auroc() is None


@BOTH
def test_a_perfect_and_a_reversed_map(figures_of: Figures) -> None:
    truth = np.zeros((1, 8, 8), dtype=bool)
    truth[0, 2:4] = True
    assert figures_of(truth.astype(float), truth) == {
        "pixel_auroc": 1.0,
        "pixel_ap": 1.0,
        "best_dice_pooled": 1.0,
    }
    assert figures_of(-truth.astype(float), truth)["pixel_auroc"] == 0.0


@BOTH
def test_a_rising_change_of_all_values_changes_nothing(figures_of: Figures) -> None:
    maps, masks = _cases(0, 1)
    before, after = figures_of(maps, masks), figures_of(np.arctan(maps) * 40 - 7, masks)
    assert after == pytest.approx(before, rel=2e-4)  # 1e-4 each


def test_one_array_is_the_same_as_a_list_of_cases() -> None:
    maps, masks = _cases(0, 1)
    assert compute_pixel_metrics(maps, masks) == compute_pixel_metrics(list(maps), list(masks))


def test_shapes_and_values_are_checked() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        PixelCounts().update(np.ones((4, 5)), np.ones((5, 4), dtype=bool))
    with pytest.raises(ValueError, match="as many maps as masks"):
        compute_pixel_metrics(np.ones((2, 4)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        compute_pixel_metrics(np.full((1, 4), np.nan), np.ones((1, 4)))

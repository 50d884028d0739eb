"""Pixel-wise and lesion-wise figures, streamed over cases."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from medad_plugins.metrics import (
    LocalizationMetric,
    PixelCounts,
    compute_aupro,
    compute_pixel_metrics,
    dice,
)

THRESHOLD, THRESHOLDS, SIZES = 1.4, [0.9, 1.8], (10, 40)
Case = tuple[np.ndarray, np.ndarray, str]


def _cases(dims: int = 2, count: int = 12) -> list[Case]:
    """Every other case has lesions of several sizes; three cases a patient."""
    random = np.random.default_rng(dims)
    shape = (32, 28) if dims == 2 else (14, 12, 10)
    cases = []
    for index in range(count):
        truth = np.zeros(shape, dtype=bool)
        if index % 2:
            truth[3:9, 3:9] = True
            truth[10:12, 4:6] = True
            truth[10 : 10 + index % 5 + 1, 8:12] = True
        if dims == 3:
            truth[:, :, 6:] = False
        noise = ndimage.gaussian_filter(random.normal(size=shape), 1)
        noise /= noise.std()
        maps = (noise + random.uniform(0.5, 2.5) * truth + 0.2 * random.normal()).astype(np.float32)
        cases.append((maps, truth, f"patient{index // 3}"))
    return cases


def _metric(cases: list[Case], **settings: Any) -> LocalizationMetric:
    settings = {"froc_thresholds": THRESHOLDS, "lesion_sizes": SIZES, "resamples": 100, **settings}
    metric = LocalizationMetric(THRESHOLD, **settings)
    for anomaly_map, truth, group in cases:
        metric.update(anomaly_map, truth if truth.any() else None, group)
    return metric


def _same(figures: dict[str, Any], expected: dict[str, Any]) -> None:
    assert figures.keys() == expected.keys()
    for name, value in figures.items():
        if name == "by_lesion_size":
            for row, other in zip(value, expected[name]):
                _same(row, other)
        elif isinstance(value, dict):
            _same(value, expected[name])
        elif isinstance(value, list) and value and isinstance(value[0], list):
            assert np.allclose(value, expected[name], atol=1e-5), name
        else:
            assert value == pytest.approx(expected[name], abs=1e-5), name


def _pixel_figures(maps: np.ndarray, masks: np.ndarray) -> dict[str, float | None]:
    """The exact ones, and within the bins' precision in so few pixels the ones to expect."""
    pixels = PixelCounts()
    pixels.update(maps, masks)
    names = {
        "pixel_auroc": pixels.auroc(),
        "pixel_ap": pixels.average_precision(),
        "best_dice_pooled": pixels.best_dice(),
    }
    assert names == pytest.approx(compute_pixel_metrics(maps, masks), rel=1e-3)
    return names


@pytest.mark.parametrize("dims", [2, 3])
def test_figures_of_pixels_are_those_of_all_pixels_at_once(dims: int) -> None:
    cases = _cases(dims)
    maps, masks = (np.stack([case[i] for case in cases]) for i in (0, 1))
    figures = _metric(cases).aggregate()
    expected = _pixel_figures(maps, masks)
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert figures["aupro"] == pytest.approx(compute_aupro(maps, masks), rel=1e-4)
    assert figures["aupro_limit"] == 0.3


@pytest.mark.parametrize("dims", [2, 3])
def test_figures_at_the_threshold_equal_loops(dims: int) -> None:
    cases = _cases(dims)
    figures = _metric(cases).aggregate()
    abnormal = [(anomaly_map > THRESHOLD, truth) for anomaly_map, truth, _ in cases if truth.any()]
    assert figures["n_masked"] == len(abnormal) == 6
    assert figures["dice_case_mean"] == pytest.approx(np.mean([dice(marked, truth) for marked, truth in abnormal]))
    overlaps = [(marked & truth).sum() / (marked | truth).sum() for marked, truth in abnormal]
    assert figures["iou_case_mean"] == pytest.approx(np.mean(overlaps))
    marked, truth = (np.stack([case[0] > THRESHOLD for case in cases]), np.stack([case[1] for case in cases]))
    assert figures["dice_pooled"] == pytest.approx(dice(marked, truth))
    assert figures["iou_pooled"] == pytest.approx((marked & truth).sum() / (marked | truth).sum())


def _loop(cases: list[Case], threshold: float, low: float = 0, high: float = np.inf) -> tuple[int, int, int, int]:
    """Lesions, lesions found, false findings, false findings in normal cases."""
    lesions = found = false = in_normal = 0
    for anomaly_map, truth, _ in cases:
        full = np.ones((3,) * truth.ndim)
        labels, count = ndimage.label(truth, structure=full)
        for number in range(1, count + 1):
            lesion = labels == number
            if low <= lesion.sum() < high:
                lesions += 1
                found += bool((anomaly_map[lesion] > threshold).any())
        labels, count = ndimage.label(anomaly_map > threshold, structure=full)
        wrong = sum(not truth[labels == number].any() for number in range(1, count + 1))
        false += wrong
        in_normal += 0 if truth.any() else wrong
    return lesions, found, false, in_normal


@pytest.mark.parametrize("dims", [2, 3])
def test_lesions_and_false_positives_equal_loops(dims: int) -> None:
    cases = _cases(dims)
    figures = _metric(cases).aggregate()
    lesions, found, false, in_normal = _loop(cases, THRESHOLD)
    assert figures["n_lesions"] == lesions
    assert figures["lesion_sensitivity"] == pytest.approx(found / lesions)
    assert figures["false_positives_per_case"] == pytest.approx(false / len(cases))
    assert figures["false_positives_per_normal_case"] == pytest.approx(in_normal / 6)
    assert 0 < found < lesions
    assert in_normal > 0
    froc = figures["froc"]
    assert froc["thresholds"] == THRESHOLDS
    for index, threshold in enumerate(THRESHOLDS):
        lesions, found, false, _ = _loop(cases, threshold)
        assert froc["lesion_sensitivity"][index] == pytest.approx(found / lesions)
        assert froc["false_positives_per_case"][index] == pytest.approx(false / len(cases))


def test_by_size_other_lesions_are_left_out() -> None:
    cases = _cases()
    rows = _metric(cases).aggregate()["by_lesion_size"]
    assert [(row["from"], row["to"]) for row in rows] == [(1, 10), (10, 40), (40, None)]
    for row in rows:
        low, high = row["from"], row["to"] or np.inf
        lesions, found, _, _ = _loop(cases, THRESHOLD, low, high)
        assert row["n_lesions"] == lesions
        values, truths, dices = [], [], []
        for anomaly_map, truth, _ in cases:
            labels, count = ndimage.label(truth, structure=np.ones((3, 3)))
            sizes = np.bincount(labels.ravel())[1:]
            here = np.isin(labels, [n + 1 for n in range(count) if low <= sizes[n] < high])
            keep = here | ~truth
            values.append(anomaly_map[keep])
            truths.append(here[keep])
            if count and low <= sizes.max() < high:
                dices.append(dice(anomaly_map > THRESHOLD, truth))
        value, truth = np.concatenate(values)[None], np.concatenate(truths)[None]
        assert row["dice_case_mean"] == (pytest.approx(np.mean(dices)) if dices else None)
        if not lesions:
            assert row["pixel_ap"] is row["lesion_sensitivity"] is row["aupro"] is row["dice_pooled"] is None
            continue
        assert row["lesion_sensitivity"] == pytest.approx(found / lesions)
        expected = _pixel_figures(value, truth)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6)
        assert row["dice_pooled"] == pytest.approx(dice(value > THRESHOLD, truth))
        assert row["iou_pooled"] == pytest.approx(
            ((value > THRESHOLD) & truth).sum() / ((value > THRESHOLD) | truth).sum()
        )
    assert sum(row["n_lesions"] for row in rows) == _loop(cases, 0)[0]


@pytest.mark.parametrize("dims", [2, 3])
def test_order_merging_and_batches_change_nothing(dims: int) -> None:
    cases = _cases(dims, 40)
    expected = _metric(cases).aggregate()
    _same(_metric(cases[::-1]).aggregate(), expected)
    merged, other = _metric(cases[:7]), _metric(cases[7:])
    before = other.aggregate()
    merged.merge(other)
    _same(merged.aggregate(), expected)
    _same(merged.aggregate(), expected)  # asking changes nothing
    _same(other.aggregate(), before)
    batched = _metric([])
    for start in range(0, 40, 6):
        part = cases[start : start + 6]
        maps, masks = (torch.from_numpy(np.stack([case[i] for case in part])).unsqueeze(1) for i in (0, 1))
        batched(maps, masks, [case[2] for case in part])
    _same(batched.aggregate(), expected)
    each = LocalizationMetric(pixel_threshold=THRESHOLD, froc_thresholds=THRESHOLDS, lesion_sizes=SIZES, resamples=100)
    each([torch.from_numpy(case[0][None]) for case in cases], [torch.from_numpy(case[1][None]) for case in cases])
    alone = each.aggregate()
    assert alone["pixel_ap"] == expected["pixel_ap"]
    assert alone["pixel_ap_95ci"] != expected["pixel_ap_95ci"]  # each case by itself, no patients


def test_memory_does_not_grow_with_the_cases() -> None:
    metric = _metric(_cases(2, 40))
    tracemalloc.start()
    for case in _cases(2, 10):
        metric.update(*case)
    first, _ = tracemalloc.get_traced_memory()
    for case in 10 * _cases(2, 10):
        metric.update(*case)
    later, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert later - first < 20_000
    assert peak < 2_000_000


def test_only_like_metrics_are_merged() -> None:
    with pytest.raises(ValueError, match="other settings"):
        _metric([]).merge(_metric([], aupro_limit=0.1))


def test_reset_forgets() -> None:
    metric = _metric(_cases())
    metric.reset()
    _same(metric.aggregate(), _metric([]).aggregate())


def _brute_interval(cases: list[Case], replicates: int) -> np.ndarray:
    """Patients drawn with replacement, normal and abnormal cases apart, pixel AP and case-wise Dice each time."""
    random = np.random.default_rng(0)
    kinds = [[c for c in cases if c[1].any()], [c for c in cases if not c[1].any()]]
    figures = []
    for _ in range(replicates):
        drawn = [kind[i] for kind in kinds for i in random.integers(0, len(kind), len(kind))]
        maps, masks = (np.stack([case[i] for case in drawn]) for i in (0, 1))
        dices = [dice(m > THRESHOLD, t) for m, t in zip(maps, masks) if t.any()]
        pixels = compute_pixel_metrics(maps, masks)
        figures.append([pixels["pixel_ap"], pixels["pixel_auroc"], compute_aupro(maps, masks), np.mean(dices)])
    return np.percentile(figures, [2.5, 97.5], axis=0)


def test_intervals_are_those_of_a_bootstrap_that_keeps_all_maps() -> None:
    cases = [(m, t, str(index)) for index, (m, t, _) in enumerate(_cases(2, 60))]
    figures = _metric(cases, resamples=400).aggregate()
    names = ["pixel_ap", "pixel_auroc", "aupro", "dice_case_mean"]
    for name, (low, high) in zip(names, _brute_interval(cases, 200).T):
        ours = figures[f"{name}_95ci"]
        assert ours[0] < figures[name] < ours[1]
        assert ours[1] - ours[0] == pytest.approx(high - low, rel=0.3), name
        assert ours == pytest.approx([low, high], abs=0.25 * (high - low)), name


def test_cases_of_a_patient_are_drawn_together() -> None:
    cases = _cases(2, 30)
    repeated = [(m, t, str(index)) for index, (m, t, _) in enumerate(cases) for _ in range(4)]
    once = _metric([(m, t, str(index)) for index, (m, t, _) in enumerate(cases)]).aggregate()
    together = _metric(repeated).aggregate()
    for name in ("pixel_ap", "dice_case_mean", "lesion_sensitivity", "false_positives_per_case"):
        assert together[name] == pytest.approx(once[name])
        assert together[f"{name}_95ci"] == pytest.approx(once[f"{name}_95ci"], abs=1e-5)


def test_one_group_of_a_kind_gives_no_interval() -> None:
    cases = [(m, t, "same") for m, t, _ in _cases()]
    figures = _metric(cases).aggregate()
    assert figures["pixel_ap"] is not None
    assert figures["pixel_ap_95ci"] is figures["lesion_sensitivity_95ci"] is None
    assert _metric(_cases(), resamples=0).aggregate()["pixel_ap_95ci"] is None


def test_what_the_cases_cannot_give_is_none() -> None:
    normal = [(m, np.zeros_like(t), g) for m, t, g in _cases()]
    figures = _metric(normal).aggregate()
    assert figures["n_masked"] == figures["n_lesions"] == 0
    for name in ("pixel_auroc", "pixel_ap", "best_dice_pooled", "aupro", "dice_case_mean", "lesion_sensitivity"):
        assert figures[name] is figures[f"{name}_95ci"] is None
    assert figures["false_positives_per_case"] == figures["false_positives_per_normal_case"] > 0
    everything = _metric([(m, np.ones_like(t), g) for m, t, g in _cases()]).aggregate()
    assert everything["pixel_auroc"] is everything["aupro"] is everything["false_positives_per_normal_case"] is None
    assert everything["pixel_ap"] == 1.0
    assert everything["false_positives_per_case"] == 0
    assert _metric([]).aggregate()["pixel_ap"] is None
    undecided = LocalizationMetric(lesion_sizes=SIZES)
    for case in _cases():
        undecided.update(*case)
    figures = undecided.aggregate()
    assert figures["pixel_ap"] is not None
    assert figures["dice_pooled"] is figures["lesion_sensitivity"] is figures["froc"] is None


def test_constant_maps_find_nothing_or_everything() -> None:
    metric = LocalizationMetric(0.5, resamples=20)
    truth = np.zeros((10, 10), dtype=bool)
    truth[2:4, 2:4] = True
    for index in range(4):
        metric.update(np.full((10, 10), 0.5), truth, str(index))
    figures = metric.aggregate()
    assert figures["pixel_auroc"] == pytest.approx(0.5)
    assert figures["dice_pooled"] == figures["lesion_sensitivity"] == figures["false_positives_per_case"] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_values_that_are_not_finite_are_refused_by_name_and_change_nothing(bad: float) -> None:
    metric = _metric(_cases())
    expected = metric.aggregate()
    with pytest.raises(ValueError, match="case 7 has NaN or infinite"):
        metric.update(np.full((40, 500), bad), None, "case 7")
    _same(metric.aggregate(), expected)


def test_shapes_and_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="of me differ in shape"):
        LocalizationMetric().update(np.ones((4, 5)), np.ones((5, 4)), "me")
    with pytest.raises(ValueError, match="as many maps"):
        LocalizationMetric()(torch.ones(2, 1, 4, 4), torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"\(1, \*spatial\)"):
        LocalizationMetric()(torch.ones(2, 3, 4, 4))
    with pytest.raises(ValueError, match="aupro_limit"):
        LocalizationMetric(aupro_limit=0)
    with pytest.raises(ValueError, match="rising"):
        LocalizationMetric(lesion_sizes=(5, 5))


def test_dice_by_hand() -> None:
    mask, truth = np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1])
    assert dice(mask, truth) == pytest.approx(2 / 5)
    assert dice(np.zeros(3), np.zeros(3)) == 1.0
    assert dice(np.ones(3), np.zeros(3)) == 0.0

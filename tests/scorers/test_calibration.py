"""Decisions from held-out normal cases: p-values, thresholds and what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.scorers.calibration import PIXEL_ALPHAS, Calibration


def _calibration(scores: list[float], pixels: Tensor | None = None) -> Calibration:
    calibration = Calibration()
    calibration.fit(torch.tensor(scores), torch.tensor(scores) if pixels is None else pixels)
    return calibration


def test_p_values_by_counting_with_ties() -> None:
    references = [0.5, 0.1, 0.3, 0.3, 0.9, 0.3]
    calibration = _calibration(references)
    for score in np.array([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0], dtype=np.float32).tolist():
        not_lower = sum(np.float32(reference) >= np.float32(score) for reference in references)
        assert calibration.p_value(score) == (1 + not_lower) / 7
    assert calibration.p_value(-5) == 1
    assert calibration.p_value(5) == 1 / 7 == calibration.smallest_alpha


def test_a_score_read_back_from_a_float_ties_with_itself() -> None:
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0))
    calibration = _calibration(scores.tolist())
    for rank, score in enumerate(scores.sort(descending=True).values):
        assert calibration.p_value(float(score)) == (2 + rank) / 51


@pytest.mark.parametrize("alpha", [0.0001, 0.0007, 0.001, 0.01, 0.033, 0.05, 0.1, 0.5, 0.9])
def test_a_share_alpha_of_normal_pixels_lies_above_the_threshold(alpha: float) -> None:
    pixels = torch.randn(4, 1, 250, 200, generator=torch.Generator().manual_seed(0)).exp()
    threshold = _calibration([0.1], pixels).pixel_threshold(alpha)
    share = float((pixels > threshold).double().mean())
    # the grid of shares goes up in steps of 1.2 %, and 200,000 pixels in steps of 5e-6
    assert alpha - 1e-5 <= share <= 1.012 * alpha + 1e-5


def test_thresholds_rise_as_alpha_falls_and_are_pixels_themselves() -> None:
    pixels = torch.rand(5000, generator=torch.Generator().manual_seed(0))
    calibration = _calibration([0.1], pixels)
    thresholds = [calibration.pixel_threshold(alpha) for alpha in np.linspace(0.999, 0.001, 50).tolist()]
    assert thresholds == sorted(thresholds) and len(set(thresholds)) > 45
    assert set(thresholds) <= set(pixels.tolist())


def test_shares_too_small_to_estimate_take_the_smallest_that_can_be_estimated() -> None:
    calibration = _calibration([0.1], torch.arange(100_001.0))
    assert calibration.pixel_threshold(1e-7) == calibration.pixel_threshold(1e-4) == 100_000 - 10


def test_threshold_is_of_the_pixels_not_of_the_scores() -> None:
    assert _calibration([0.1] * 19, torch.full((8,), 7.0)).pixel_threshold(0.05) == 7


def test_only_so_much_is_kept_of_the_pixels() -> None:
    sizes = {_calibration([0.1], torch.rand(n)).pixel_quantiles.numel() for n in (1, 50, 5000)}
    assert sizes == {PIXEL_ALPHAS.numel()}


def test_alpha_below_the_smallest_flags_nothing() -> None:
    calibration = _calibration([0.1, 0.2, 0.3])
    assert calibration.smallest_alpha == 0.25 == calibration.p_value(math.inf)


@pytest.mark.parametrize(
    ("n", "alpha", "rate"), [(39, 0.05, 0.05), (30, 0.05, 1 / 31), (15, 0.05, 0.0), (19, 0.2, 0.2)]
)
def test_at_most_alpha_of_exchangeable_normal_cases_are_flagged(n: int, alpha: float, rate: float) -> None:
    """The exact rate is ``floor(alpha (n + 1)) / (n + 1)``."""
    random, draws = np.random.RandomState(0), 1000
    flagged = 0
    for _ in range(draws):
        # any distribution, the same for all
        values = torch.from_numpy(random.gamma(0.5, size=n + 1).astype(np.float32))
        calibration = Calibration()
        calibration.fit(values[:-1], values[:1])
        flagged += calibration.p_value(float(values[-1])) <= alpha
    assert abs(flagged / draws - rate) <= 4 * math.sqrt(rate * (1 - rate) / draws)


def test_a_mask_begins_half_way_to_the_peak_and_never_below_the_normal_pixels() -> None:
    calibration = _calibration([0.1], torch.linspace(0, 1, 10_001))
    assert calibration.mask_threshold(peak=0.7, alpha=0.3) == pytest.approx(0.998, abs=1e-3)
    assert calibration.mask_threshold(peak=3.5, alpha=0.3) == pytest.approx(2, abs=2e-3)
    # the same picture whatever unit the map is in
    other = _calibration([0.1], torch.linspace(-7, -5, 10_001))
    assert other.mask_threshold(peak=0.0, alpha=0.3) == pytest.approx(-3, abs=2e-3)


def test_a_model_from_before_the_rule_marks_as_it_did() -> None:
    fitted, old = _calibration([0.2, 0.1], torch.linspace(0, 1, 1001)), Calibration()
    state = fitted.state_dict()
    before = {name: state[name] for name in ("reference_scores", "pixel_quantiles")}
    old.load_state_dict(before, strict=True)
    assert old.mask_threshold(peak=9, alpha=0.1) == old.pixel_threshold(0.1)
    # what a network held before is not taken for the file's
    fitted.load_state_dict(before, strict=True)
    assert fitted.mask_threshold(peak=9, alpha=0.1) == old.pixel_threshold(0.1)
    assert fitted.p_value(0.15) == old.p_value(0.15)


def test_groups_and_inputs_stay_with_their_scores() -> None:
    calibration, loaded = Calibration(), Calibration()
    inputs = torch.tensor([[3.0, 0.3], [1.0, 0.1], [2.0, 0.2]])
    calibration.fit(torch.tensor([0.3, 0.1, 0.2]), torch.rand(9), inputs, ["b", "a", "b"], "scanner")
    loaded.load_state_dict(calibration.state_dict(), strict=True)
    assert loaded.group_column == "scanner" and loaded.groups == ["a", "b", "b"]
    assert loaded.reference_inputs[:, 0].tolist() == [1, 2, 3]
    assert [loaded.p_value(0.25, group) for group in ("a", "b", None, "c")] == [1 / 2, 2 / 3, 2 / 4, 1]
    assert [loaded.group_size(group) for group in ("a", "b", "c")] == [1, 2, 0]


def test_groups_of_two_sites_are_those_of_one() -> None:
    one, two, both = Calibration(), Calibration(), Calibration()
    scores, groups = torch.rand(30, generator=torch.Generator().manual_seed(0)), [str(n % 3) for n in range(30)]
    inputs = torch.rand(30, 2)
    one.fit(scores[:20], torch.rand(50), inputs[:20], groups[:20], "scanner")
    two.fit(scores[20:], torch.rand(50), inputs[20:], groups[20:], "scanner")
    both.fit(scores, torch.rand(50), inputs, groups, "scanner")
    merged = Calibration()
    merged.load_state_dict(merged.merge_buffers([one.state_dict(), two.state_dict()]), strict=True)
    for name in ("reference_scores", "reference_inputs", "reference_groups", "group_names", "mask_rule"):
        assert torch.equal(getattr(merged, name), getattr(both, name)), name


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 5])
def test_alpha_out_of_range(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must lie between 0 and 1"):
        _calibration([0.1]).pixel_threshold(alpha)


def test_fit_sorts_and_replaces() -> None:
    calibration = _calibration([3.0, 1.0, 2.0])
    assert calibration.reference_scores.tolist() == [1, 2, 3]
    calibration.fit(torch.tensor([5.0]), torch.tensor([6.0]))
    assert calibration.reference_scores.tolist() == [5] and calibration.pixel_threshold(0.5) == 6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    for scores, pixels in (([0.1, bad], [0.1, 0.2]), ([0.1, 0.2], [bad, 0.2])):
        with pytest.raises(ValueError, match="not all finite: did the training diverge"):
            _calibration(scores, torch.tensor(pixels))


def test_nothing_to_calibrate_on() -> None:
    cases: list[tuple[list[float], list[float]]] = [([], [0.1]), ([0.1], [])]
    for scores, pixels in cases:
        with pytest.raises(ValueError, match="no held-out normal case to calibrate on"):
            _calibration(scores, torch.tensor(pixels))


def test_unfitted() -> None:
    calibration = Calibration()
    assert not calibration.is_fitted and calibration.smallest_alpha == 1
    for ask in (lambda: calibration.p_value(0.1), lambda: calibration.pixel_threshold(0.05)):
        with pytest.raises(RuntimeError, match="the network is not calibrated"):
            ask()


def test_the_size_comes_with_the_checkpoint() -> None:
    fitted, other = _calibration([0.2, 0.1, 0.4], torch.tensor([0.3, 0.5, 0.6])), Calibration()
    other.load_state_dict(fitted.state_dict(), strict=True)
    assert other.is_fitted and other.p_value(0.2) == fitted.p_value(0.2) == 0.75
    assert other.pixel_threshold(0.5) == fitted.pixel_threshold(0.5) == pytest.approx(0.5)


def test_says_at_which_alpha_anything_can_be_flagged() -> None:
    calibration = Calibration()
    assert not calibration.can_flag(0.5), "not calibrated"
    calibration.fit(scores=torch.arange(19.0), pixels=torch.rand(10))
    assert calibration.can_flag(0.05)
    assert not calibration.can_flag(0.049)

"""The ranking of detectors: order, intervals, what is called usable."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medad_plugins.start import Trial, rank_trials

GROUPS = [f"patient {i}" for i in range(40)]


def _trial(name: str, shift: float, seed: int, is_trivial: bool = False, labelled: float | None = None) -> Trial:
    """Anomalies of two kinds that raise the score, the second half as much, one of them not made."""
    rng = np.random.default_rng(seed)
    clean = rng.standard_normal(40)
    kinds = {"blob": clean + shift + rng.standard_normal(40), "sink": clean + shift / 2 + rng.standard_normal(40)}
    kinds["sink"][3] = np.nan
    scores = np.empty(0) if labelled is None else np.r_[rng.standard_normal(20), rng.standard_normal(20) + labelled]
    return Trial(name, clean, kinds, {}, scores, is_trivial, 1.0)


def test_the_best_stands_first_with_its_figure_and_interval() -> None:
    trials = [_trial("poor", 0.0, 0), _trial("best", 4.0, 1), _trial("good", 1.5, 2), _trial("look-up", 0.5, 3, True)]
    ranked = rank_trials(trials, GROUPS)
    assert [row.trial.name for row in ranked] == ["best", "good", "look-up", "poor"]
    best = ranked[0]
    kinds = [best.trial.synthetic[name] for name in ("blob", "sink")]
    expected = [
        roc_auc_score(
            np.repeat([0, 1], [40, int(np.isfinite(kind).sum())]), np.r_[best.trial.clean, kind[np.isfinite(kind)]]
        )
        for kind in kinds
    ]
    assert best.by_recipe == pytest.approx({"blob": expected[0], "sink": expected[1]})
    assert best.value == best.synthetic == pytest.approx(np.mean(expected))
    assert best.interval[0] < best.value < best.interval[1]
    assert best.labelled is None and best.first > 0.9
    assert sum(row.first for row in ranked) == pytest.approx(1)
    assert next(row for row in ranked if row.trial.is_trivial).first == 0, "trivial ones do not compete"
    assert [row.is_usable for row in ranked if not row.trial.is_trivial] == [True, True, False]
    assert "guessing" in ranked[-1].reason


def test_what_a_trivial_detector_does_as_well_is_not_usable() -> None:
    ranked = rank_trials([_trial("mine", 1.5, 0), _trial("thumbnail nearest neighbour", 4.0, 1, True)], GROUPS)
    assert ranked[0].trial.is_trivial
    assert ranked[1].reason == "no better than the thumbnail nearest neighbour"


def test_a_handful_of_patients_says_nothing() -> None:
    (few,) = rank_trials([_trial("mine", 4.0, 0)], [f"{i % 7}" for i in range(40)])
    assert not few.is_usable and "judged by 7 patients" in few.reason
    (enough,) = rank_trials([_trial("mine", 4.0, 0)], [f"{i % 8}" for i in range(40)])
    assert enough.is_usable


def test_labelled_cases_count_where_there_are_any() -> None:
    trials = [_trial("sees synthetic", 4.0, 0, labelled=0.0), _trial("sees disease", 0.5, 1, labelled=3.0)]
    labels = [0] * 20 + [1] * 20
    ranked = rank_trials(trials, GROUPS, labels, [f"{i}" for i in range(40)])
    assert [row.trial.name for row in ranked] == ["sees disease", "sees synthetic"]
    assert ranked[0].value == ranked[0].labelled == pytest.approx(roc_auc_score(labels, ranked[0].trial.labelled))
    assert ranked[0].synthetic < ranked[1].synthetic


def test_patients_are_drawn_whole() -> None:
    """Ten scans of each of four patients say less than forty patients."""
    trial = _trial("mine", 1.0, 5)
    seen = np.repeat([0.0, 8.0, 0.0, 8.0], 10)  # in two of the patients the anomaly shows
    trial = Trial("mine", trial.clean, {"blob": trial.clean + seen})
    wide, narrow = (rank_trials([trial], groups)[0].interval for groups in ([f"{i // 10}" for i in range(40)], GROUPS))
    assert wide[1] - wide[0] > 1.3 * (narrow[1] - narrow[0])


def test_ranks_are_the_same_every_time() -> None:
    trials = [_trial("a", 1.0, 0), _trial("b", 1.2, 1)]
    first, again = rank_trials(trials, GROUPS), rank_trials(trials, GROUPS)
    assert [(row.value, row.interval, row.first) for row in first] == [
        (row.value, row.interval, row.first) for row in again
    ]
    assert rank_trials([], GROUPS) == []

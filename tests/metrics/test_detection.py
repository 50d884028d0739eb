"""Figures of image-level detection."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import beta
from sklearn import metrics

from medad_plugins.metrics import binomial_interval, describe_detection, detection_summary


def test_figures_of_a_small_set_counted_by_hand() -> None:
    scores = [0.1, 0.2, 0.3, 0.9, 0.25, 0.8, 0.95]
    labels = [0, 0, 0, 0, 1, 1, 1]
    p_values = [0.9, 0.8, 0.5, 0.02, 0.6, 0.05, 0.01]
    figures = detection_summary(scores, labels, p_values, alpha=0.05)
    assert (figures["n_normal"], figures["n_abnormal"]) == (4, 3)
    # pairs (abnormal above normal): 0.25 beats 2, 0.8 beats 3, 0.95 beats 4, of 12
    assert figures["auroc"] == pytest.approx(9 / 12)
    # abnormal cases at ranks 1, 3 and 5 of the descending scores
    assert figures["average_precision"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert figures["sensitivity"] == pytest.approx(2 / 3)  # p = alpha is flagged
    assert figures["false_positive_rate"] == pytest.approx(1 / 4)
    assert figures["accuracy"] == pytest.approx(5 / 7)
    assert figures["false_positive_rate_95ci"] == pytest.approx([beta.ppf(0.025, 1, 4), beta.ppf(0.975, 2, 3)])


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_has_no_auroc(label: int) -> None:
    figures = detection_summary([0.1, 0.2], [label, label], [0.5, 0.01], alpha=0.05)
    assert figures["auroc"] is None
    assert figures["average_precision"] is None
    assert figures["accuracy"] == 0.5
    assert figures["false_positive_rate"] == (None if label else 0.5)
    assert figures["sensitivity"] == (0.5 if label else None)
    assert "AUROC and AP undefined" in describe_detection(figures)


def test_no_case_at_all() -> None:
    figures = detection_summary([], [], [], alpha=0.05)
    assert figures["accuracy"] is None
    assert figures["false_positive_rate_95ci"] is None


def test_lengths_and_labels_are_checked() -> None:
    with pytest.raises(ValueError, match="as many"):
        detection_summary([0.1], [0, 1], [0.1, 0.2], alpha=0.05)
    with pytest.raises(ValueError, match="labels are 0"):
        detection_summary([0.1], [2], [0.1], alpha=0.05)


def test_interval_covers_the_ends() -> None:
    none, some = binomial_interval(0, 20), binomial_interval(20, 20)
    assert none is not None
    assert some is not None
    assert none[0] == 0.0
    assert none[1] == pytest.approx(1 - 0.025 ** (1 / 20))
    assert some[1] == 1.0
    assert some[0] == pytest.approx(0.025 ** (1 / 20))
    assert binomial_interval(0, 0) is None


def test_line_reads_as_a_sentence() -> None:
    figures = detection_summary([0.1, 0.9], [0, 1], [0.9, 0.01], alpha=0.05)
    expected = "AUROC 1.000, AP 1.000, accuracy 1.00 at alpha 0.05 (false-positive rate 0.00 [0.00, 0.97])"
    assert describe_detection(figures) == expected


def _set(count: int = 300, patients: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    random = np.random.default_rng(0)
    groups = random.integers(0, patients, count)
    labels = (random.random(patients) < 0.4)[groups].astype(int)
    scores = np.round(random.normal(size=count) + labels + random.normal(size=patients)[groups], 1)
    return scores, labels, 1 - random.random(count) * (0.4 + 0.6 * labels), groups.tolist()


def test_every_figure_equals_scikit_learns_with_ties() -> None:
    scores, labels, p_values, _ = _set()
    figures = detection_summary(scores, labels, p_values, alpha=0.3, resamples=0)
    flagged = p_values <= 0.3
    assert figures["auroc"] == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    assert figures["average_precision"] == pytest.approx(metrics.average_precision_score(labels, scores), abs=1e-12)
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(labels, flagged))
    assert figures["precision"] == pytest.approx(metrics.precision_score(labels, flagged))
    assert figures["sensitivity"] == pytest.approx(metrics.recall_score(labels, flagged))
    assert figures["specificity"] == pytest.approx(metrics.recall_score(labels, flagged, pos_label=0))
    assert figures["false_positive_rate"] == pytest.approx(1 - figures["specificity"])
    assert figures["f1"] == pytest.approx(metrics.f1_score(labels, flagged))
    by_hand = {threshold: metrics.f1_score(labels, scores >= threshold) for threshold in np.unique(scores)}
    assert figures["f1_max"] == pytest.approx(max(by_hand.values()))
    assert figures["f1_max"] == pytest.approx(by_hand[figures["f1_max_threshold"]])


def test_of_thresholds_of_equal_f1_the_highest_is_taken() -> None:
    # flagging the two highest or all four gives F1 2 / 3
    figures = detection_summary([4.0, 3.0, 2.0, 1.0], [1, 0, 0, 1], None, 0.05)
    assert (figures["f1_max"], figures["f1_max_threshold"]) == (pytest.approx(2 / 3), 4.0)


def test_the_validation_threshold_is_chosen_there_and_applied_here() -> None:
    scores, labels, p_values, _ = _set()
    validation = ([0.0, 1.0, 1.4, 2.0], [0, 0, 1, 1])
    figures = detection_summary(scores, labels, p_values, 0.05, validation=validation, resamples=50)
    assert figures["validation_f1_threshold"] == 1.4
    flagged = scores >= 1.4
    assert figures["validation_f1_accuracy"] == pytest.approx(metrics.accuracy_score(labels, flagged))
    assert figures["validation_f1_precision"] == pytest.approx(metrics.precision_score(labels, flagged))
    assert figures["validation_f1_sensitivity"] == pytest.approx(metrics.recall_score(labels, flagged))
    assert figures["validation_f1_specificity"] == pytest.approx(metrics.recall_score(labels, flagged, pos_label=0))
    assert figures["validation_f1_f1"] == pytest.approx(metrics.f1_score(labels, flagged))
    low, high = figures["validation_f1_f1_95ci"]
    assert low < figures["validation_f1_f1"] < high
    without = detection_summary(scores, labels, p_values, 0.05, resamples=50)
    assert without["validation_f1_threshold"] is without["validation_f1_f1"] is without["validation_f1_f1_95ci"] is None
    assert without.keys() == figures.keys()
    with pytest.raises(ValueError, match="both classes"):
        detection_summary(scores, labels, p_values, 0.05, validation=([1.0, 2.0], [0, 0]))


@pytest.mark.parametrize("by_patient", [False, True])
def test_intervals_are_those_of_a_loop_over_resamples(by_patient: bool) -> None:
    scores, labels, p_values, patients = _set()
    groups = np.array(patients) if by_patient else np.arange(labels.size)
    figures = detection_summary(scores, labels, p_values, 0.3, groups=patients if by_patient else None)
    random = np.random.default_rng(1)
    kinds = [np.unique(groups[labels == label]) for label in (0, 1)]
    made = []
    for _ in range(400):
        drawn = np.concatenate([random.choice(kind, kind.size) for kind in kinds])
        cases = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        truth, score, flagged = labels[cases], scores[cases], p_values[cases] <= 0.3
        made.append(
            [
                metrics.roc_auc_score(truth, score),
                metrics.average_precision_score(truth, score),
                metrics.accuracy_score(truth, flagged),
                metrics.f1_score(truth, flagged),
                metrics.recall_score(truth, flagged, pos_label=0),
            ]
        )
    names = ["auroc", "average_precision", "accuracy", "f1", "specificity"]
    # of single cases, shares of one class have the exact interval instead
    compared = names if by_patient else names[:-1]
    for name, (low, high) in zip(compared, np.percentile(made, [2.5, 97.5], axis=0).T):
        assert figures[f"{name}_95ci"] == pytest.approx([low, high], abs=0.2 * (high - low)), name


def test_the_false_positive_rate_has_the_exact_interval_unless_patients_have_several_cases() -> None:
    scores, labels, p_values, patients = _set()
    alone = detection_summary(scores, labels, p_values, 0.3)
    n_normal = int((labels == 0).sum())
    exact = binomial_interval(int((p_values[labels == 0] <= 0.3).sum()), n_normal)
    assert alone["false_positive_rate_95ci"] == pytest.approx(exact)
    grouped = detection_summary(scores, labels, p_values, 0.3, groups=patients)
    low, high = grouped["specificity_95ci"]
    assert grouped["false_positive_rate_95ci"] == pytest.approx([1 - high, 1 - low])


def test_a_perfect_sensitivity_is_no_certainty() -> None:
    p_values = [0.01] * 9 + [0.5] * 11
    figures = detection_summary(range(20), [1] * 9 + [0] * 11, p_values, 0.05)
    assert figures["sensitivity"] == figures["specificity"] == 1
    assert figures["sensitivity_95ci"] == pytest.approx([0.025 ** (1 / 9), 1])  # the rule of three's exact form
    assert figures["specificity_95ci"] == pytest.approx([0.025 ** (1 / 11), 1])


def test_repeating_every_case_within_its_patient_changes_no_interval() -> None:
    scores, labels, p_values, _ = _set(60, 60)
    names = [str(index) for index in range(60)]
    once = detection_summary(scores, labels, p_values, 0.3, groups=names)
    often = detection_summary(np.tile(scores, 5), np.tile(labels, 5), np.tile(p_values, 5), 0.3, groups=names * 5)
    for name in ("auroc_95ci", "accuracy_95ci", "average_precision_95ci"):
        assert often[name] == pytest.approx(once[name])


def test_one_group_of_a_class_gives_no_interval_for_what_depends_on_it() -> None:
    scores, labels, p_values, _ = _set()
    groups = [index if label == 0 else "one patient" for index, label in enumerate(labels)]
    figures = detection_summary(scores, labels, p_values, 0.3, groups=groups)
    assert figures["auroc"] is not None
    assert figures["auroc_95ci"] is figures["sensitivity_95ci"] is None
    assert figures["specificity_95ci"] is not None


def test_a_thousand_resamples_of_two_thousand_cases_in_a_second() -> None:
    scores, labels, p_values, groups = _set(2000, 700)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        detection_summary(scores, labels, p_values, 0.3, groups=groups, validation=(scores, labels))
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1


def test_scores_without_p_values_have_no_decision() -> None:
    figures = detection_summary([0.1, 0.9], [0, 1], None, 0.05)
    assert figures["auroc"] == 1.0
    assert figures["accuracy"] is figures["false_positive_rate"] is figures["false_positive_rate_95ci"] is None
    with pytest.raises(ValueError, match="NaN or infinite"):
        detection_summary([0.1, float("nan")], [0, 1], None, 0.05)
    with pytest.raises(ValueError, match="as many groups"):
        detection_summary([0.1, 0.9], [0, 1], None, 0.05, groups=["a"])

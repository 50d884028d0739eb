"""Figures of image-level detection."""

from __future__ import annotations

import pytest
from scipy.stats import beta

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

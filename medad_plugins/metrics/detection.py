"""How well scores and decisions separate abnormal cases from normal ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from medad_plugins.metrics.case_bootstrap import GroupBootstrap
from medad_plugins.metrics.curves import area_to_limit, average_precision

__all__ = ["best_f1", "binomial_interval", "describe_detection", "detection_summary"]

_Figures = dict[str, NDArray[np.float64]]


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Clopper-Pearson interval of a proportion, None without trials.

    Example:
        >>> low, high = binomial_interval(19, 20)
        >>> round(low, 3), round(high, 3)
        (0.751, 0.999)
    """
    if trials == 0:
        return None
    interval = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


class _Ranking:
    """AUROC and average precision of scores whose cases have weights."""

    def __init__(self, scores: NDArray[np.float64], labels: NDArray[np.integer]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        falling = scores[self._order]
        self._ties = np.flatnonzero(np.diff(falling, prepend=np.inf))  # first case of each distinct score
        self._abnormal = labels[self._order] == 1
        self.distinct = falling[self._ties]

    def counts(self, weights: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        """Abnormal and normal cases at each distinct score from the highest, ``(R, distinct)``, of ``(R, N)``."""
        ordered = weights[:, self._order]
        abnormal = np.where(self._abnormal, ordered, 0)
        if self._ties.size == self._order.size:
            return abnormal, ordered - abnormal
        both = np.add.reduceat(ordered, self._ties, axis=-1)
        abnormal = np.add.reduceat(abnormal, self._ties, axis=-1)
        return abnormal, both - abnormal

    def figures(self, weights: NDArray[np.float64]) -> _Figures:
        abnormal, normal = self.counts(weights)
        until = np.cumsum(normal, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = until / until[:, -1:]
            before = (until - normal) / until[:, -1:]
            auroc = area_to_limit(abnormal, before, rate) / abnormal.sum(axis=-1)
        return {"auroc": auroc, "average_precision": average_precision(abnormal, until)}


def _decision_figures(weights: NDArray, flagged: NDArray[np.bool_], labels: NDArray, prefix: str = "") -> _Figures:
    """Accuracy and its relatives of decisions, ``(R,)`` each; NaN where there is nothing to divide by."""
    cells = np.stack([flagged & (labels == 1), flagged & (labels == 0), labels == 1, labels == 0], axis=1)
    true, false, abnormal, normal = (weights @ cells.astype(np.float64)).T
    both = (abnormal > 0) & (normal > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = {
            "accuracy": (true + normal - false) / (abnormal + normal),
            "precision": np.where(both, true / (true + false), np.nan),
            "sensitivity": true / abnormal,
            "specificity": (normal - false) / normal,
            "f1": np.where(both, 2 * true / (true + false + abnormal), np.nan),
        }
    return {prefix + name: values for name, values in figures.items()}


def best_f1(scores: NDArray[np.float64], labels: NDArray[np.integer]) -> tuple[float, float]:
    """Highest F1 of the rule "score >= threshold is abnormal", and its threshold.

    The threshold is one of the scores; where several give the same F1, the highest, which flags the fewest cases.
    """
    ranking = _Ranking(scores, labels)
    abnormal, normal = (counts[0] for counts in ranking.counts(np.ones((1, scores.size))))
    f1 = 2 * np.cumsum(abnormal) / (np.cumsum(abnormal + normal) + abnormal.sum())
    best = int(np.argmax(f1))
    return float(f1[best]), float(ranking.distinct[best])


def detection_summary(
    scores: ArrayLike,
    labels: ArrayLike,
    p_values: ArrayLike | None,
    alpha: float,
    *,
    groups: Sequence[Hashable] | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of image-level detection with 95 % intervals; a figure that the data cannot give is None.

    Intervals, ``<figure>_95ci`` as ``[low, high]``, are percentiles of a bootstrap that draws whole groups, apart for
    groups of normal cases, of abnormal cases and of both; None where a class that the figure depends on comes from one
    group alone. Those of sensitivity, specificity and false-positive rate are Clopper-Pearson's where every case is its
    own group.

    Args:
        scores: anomaly score per case, higher is more abnormal.
        labels: 0 normal, 1 abnormal.
        p_values: conformal p-value per case; a case with ``p_value <= alpha`` is decided to be anomalous. None leaves
            the figures of that decision None.
        alpha: the decision level, 0..1.
        groups: patient (or cluster of near copies) per case; None makes every case its own.
        validation: scores and labels of other cases, of both classes, for the threshold that the survey's protocol
            uses; it stays fixed in the bootstrap. None leaves ``validation_f1_...`` None.
        resamples: of the bootstrap; 0 for no bootstrap intervals.
        seed: of the bootstrap.

    Returns:
        - ``n_normal``, ``n_abnormal``; ``auroc``, ``average_precision`` (None unless both classes are there);
        - ``f1_max`` and ``f1_max_threshold``, chosen on these very cases: an upper bound, not a result;
        - ``alpha`` and, for the decision, ``accuracy``, ``precision``, ``sensitivity``, ``specificity``, ``f1``,
          ``false_positive_rate``; precision and F1 only where both classes are there;
        - ``validation_f1_threshold`` (see `best_f1`: a case with ``score >= threshold`` is abnormal), and the same
          figures for it, ``validation_f1_accuracy`` and so on.

    Raises:
        ValueError: not as many scores, labels, p-values and groups; a label other than 0 and 1; a score that is not
            finite; validation cases of one class only.

    Example:
        >>> summary = detection_summary([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1], p_values=[1, 0.5, 0.6, 0.04], alpha=0.05)
        >>> summary["auroc"], summary["sensitivity"], summary["false_positive_rate"]
        (0.75, 0.5, 0.0)
    """
    score, truth, flagged = _checked(scores, labels, p_values, alpha)
    if groups is not None and len(groups) != truth.size:
        raise ValueError(f"as many groups as cases: got {len(groups)}, {truth.size}")
    n_abnormal, n_normal = int((truth == 1).sum()), int((truth == 0).sum())
    both = n_abnormal > 0 and n_normal > 0
    f1_max, f1_threshold = best_f1(score, truth) if both else (None, None)
    threshold = None if validation is None else _validation_threshold(*validation)
    ranking = _Ranking(score, truth)

    def figures(weights: NDArray[np.float64]) -> _Figures:
        nothing = np.full(weights.shape[0], np.nan)
        values = ranking.figures(weights) if both else {"auroc": nothing, "average_precision": nothing}
        for prefix, decision in (("", flagged), ("validation_f1_", None if threshold is None else score >= threshold)):
            made = _decision_figures(weights, score > np.inf if decision is None else decision, truth, prefix)
            values.update(made if decision is not None and truth.size else dict.fromkeys(made, nothing))
        return values

    bootstrap = GroupBootstrap(truth, groups)
    summary: dict[str, Any] = {"n_normal": n_normal, "n_abnormal": n_abnormal}
    summary.update(_with_intervals(figures, bootstrap, resamples if truth.size else 0, seed))
    summary.update(f1_max=f1_max, f1_max_threshold=f1_threshold, alpha=float(alpha), validation_f1_threshold=threshold)
    if bootstrap.single_cases:
        summary.update(_exact_intervals(summary, n_abnormal, n_normal))
    summary.update(_false_positive_rate(summary, n_normal))
    return summary


def _checked(
    scores: ArrayLike, labels: ArrayLike, p_values: ArrayLike | None, alpha: float
) -> tuple[NDArray[np.float64], NDArray[np.int_], NDArray[np.bool_] | None]:
    truth = np.asarray(labels, dtype=int)
    score = np.asarray(scores, dtype=np.float64)
    flagged = None if p_values is None else np.asarray(p_values, dtype=np.float64) <= alpha
    if truth.ndim != 1 or truth.shape != score.shape or (flagged is not None and truth.shape != flagged.shape):
        found = "none" if flagged is None else flagged.size
        raise ValueError(f"as many scores, labels and p-values: got {score.size}, {truth.size}, {found}")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels are 0 (normal) or 1 (abnormal)")
    if not np.isfinite(score).all():
        raise ValueError("a score is NaN or infinite")
    return score, truth, flagged


def _validation_threshold(scores: ArrayLike, labels: ArrayLike) -> float:
    score, truth, _ = _checked(scores, labels, None, 0)
    if np.unique(truth).size != 2:
        raise ValueError("a threshold is chosen on validation cases of both classes, normal and abnormal")
    return best_f1(score, truth)[1]


def _with_intervals(
    figures: Callable[[NDArray[np.float64]], _Figures], bootstrap: GroupBootstrap, resamples: int, seed: int
) -> dict[str, Any]:
    values = figures(np.ones((1, bootstrap.size)))
    parts = [figures(weights) for weights in bootstrap.weights(resamples, seed)]
    summary: dict[str, Any] = {}
    for name, value in values.items():
        summary[name] = float(value[0]) if np.isfinite(value[0]) else None
        replicates = np.concatenate([part[name] for part in parts]) if parts else np.zeros(0)
        replicates = replicates[np.isfinite(replicates)]
        enough = bootstrap.varies(name.removeprefix("validation_f1_")) and 2 * replicates.size > resamples
        interval = np.percentile(replicates, [2.5, 97.5]).tolist() if enough else None
        summary[f"{name}_95ci"] = interval if summary[name] is not None else None
    return summary


def _exact_intervals(summary: dict[str, Any], n_abnormal: int, n_normal: int) -> dict[str, Any]:
    """Binomial intervals of the shares of one class: right also where all or none of its cases were flagged."""
    exact: dict[str, Any] = {}
    for prefix in ("", "validation_f1_"):
        for name, count in ((f"{prefix}sensitivity", n_abnormal), (f"{prefix}specificity", n_normal)):
            if summary[name] is not None:
                interval = binomial_interval(round(summary[name] * count), count)
                exact[f"{name}_95ci"] = list(interval) if interval else None
    return exact


def _false_positive_rate(summary: dict[str, Any], n_normal: int) -> dict[str, Any]:
    """What is left to 1 of the specificity."""
    specificity, interval = summary["specificity"], summary["specificity_95ci"]
    return {
        "false_positive_rate": None if specificity is None else (n_normal - round(specificity * n_normal)) / n_normal,
        "false_positive_rate_95ci": None if interval is None else [1 - interval[1], 1 - interval[0]],
    }


def describe_detection(summary: dict[str, Any]) -> str:
    """The figures of ``detection_summary`` as one line, without the counts.

    Example:
        >>> from medad_plugins.metrics import detection_summary
        >>> describe_detection(detection_summary([0.1, 0.4, 0.3, 0.9], [0, 0, 1, 1], p_values=None, alpha=0.05))
        'AUROC 0.750, AP 0.833'
    """
    parts = []
    if summary["auroc"] is None:
        parts.append("AUROC and AP undefined (cases of one class only)")
    else:
        parts += [f"AUROC {summary['auroc']:.3f}", f"AP {summary['average_precision']:.3f}"]
    if summary["accuracy"] is not None:
        decision = f"accuracy {summary['accuracy']:.2f} at alpha {summary['alpha']:g}"
        if summary["false_positive_rate"] is not None:
            decision += f" (false-positive rate {summary['false_positive_rate']:.2f}"
            interval = summary["false_positive_rate_95ci"]
            decision += f" [{interval[0]:.2f}, {interval[1]:.2f}])" if interval else ")"
        parts.append(decision)
    return ", ".join(parts)

"""How well scores and decisions tell abnormal cases from normal ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

__all__ = ["binomial_interval", "describe_detection", "detection_summary"]


def binomial_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Clopper-Pearson interval of a proportion, None without trials."""
    if trials == 0:
        return None
    interval = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def detection_summary(
    scores: Sequence[float], labels: Sequence[int], p_values: Sequence[float], alpha: float
) -> dict[str, Any]:
    """Figures of image-level detection; a figure that the data cannot give is None.

    Args:
        scores: anomaly score per case, higher is more abnormal.
        labels: 0 normal, 1 abnormal.
        p_values: conformal p-value per case; a case with ``p_value <= alpha`` is decided to be anomalous.
        alpha: the decision level, 0..1.

    Returns:
        ``n_normal``, ``n_abnormal``, ``auroc`` and ``average_precision`` (None unless both classes are there),
        ``alpha``, ``accuracy``, ``sensitivity``, ``false_positive_rate`` and ``false_positive_rate_95ci``
        (``[low, high]``).
    """
    truth = np.asarray(labels, dtype=int)
    score = np.asarray(scores, dtype=np.float64)
    flagged = np.asarray(p_values, dtype=np.float64) <= alpha
    if not truth.shape == score.shape == flagged.shape:
        raise ValueError(f"as many scores, labels and p-values: got {score.size}, {truth.size}, {flagged.size}")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("labels are 0 (normal) or 1 (abnormal)")
    abnormal, normal = truth == 1, truth == 0
    n_abnormal, n_normal = int(abnormal.sum()), int(normal.sum())
    both = n_abnormal > 0 and n_normal > 0
    false_positives = int(flagged[normal].sum())
    interval = binomial_interval(false_positives, n_normal)
    return {
        "n_normal": n_normal,
        "n_abnormal": n_abnormal,
        "auroc": float(roc_auc_score(truth, score)) if both else None,
        "average_precision": float(average_precision_score(truth, score)) if both else None,
        "alpha": float(alpha),
        "accuracy": float((flagged == abnormal).mean()) if truth.size else None,
        "sensitivity": float(flagged[abnormal].mean()) if n_abnormal else None,
        "false_positive_rate": false_positives / n_normal if n_normal else None,
        "false_positive_rate_95ci": list(interval) if interval else None,
    }


def describe_detection(summary: dict[str, Any]) -> str:
    """The figures of ``detection_summary`` as one line, without the counts."""
    parts = []
    if summary["auroc"] is None:
        parts.append("AUROC and AP undefined (cases of one class only)")
    else:
        parts += [f"AUROC {summary['auroc']:.3f}", f"AP {summary['average_precision']:.3f}"]
    if summary["accuracy"] is not None:
        decision = f"accuracy {summary['accuracy']:.2f} at alpha {summary['alpha']:g}"
        if summary["false_positive_rate"] is not None:
            low, high = summary["false_positive_rate_95ci"]
            decision += f" (false-positive rate {summary['false_positive_rate']:.2f} [{low:.2f}, {high:.2f}])"
        parts.append(decision)
    return ", ".join(parts)

"""Attributes of files and grids that reveal the label: what a detector may learn in place of the disease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

__all__ = ["Shortcut", "find_shortcuts"]

_FOLDS = 5
_FEWEST = 10  # of each class; below that five folds say nothing
_LEAVES = 6


@dataclass(frozen=True)
class Shortcut:
    """How well one attribute alone predicts the label.

    Attributes:
        attribute: its name.
        auroc: cross-validated area under the ROC curve of a small decision tree on it.
        p_value: of an area above 0.5, corrected for the number of attributes (Holm).
        normal: the median, or the most frequent value with its share, of the normal cases.
        abnormal: the same of the abnormal ones.
    """

    attribute: str
    auroc: float
    p_value: float
    normal: str
    abnormal: str


def find_shortcuts(
    attributes: Sequence[Mapping[str, float | str]], labels: NDArray[np.int64], seed: int = 0
) -> list[Shortcut]:
    """Every attribute that differs between cases, the best predictor of the label first.

    A decision tree of at most six leaves is fitted to one attribute on four fifths of the cases and predicts the rest,
    so that sizes or file types of one class are found whatever their order. Pass one case of each group of copies:
    copies on both sides of a fold would make any attribute a predictor.

    Args:
        attributes: by name, of ``n`` cases; numbers, or names.
        labels: ``(n,)``, 0 normal, 1 abnormal.
        seed: of the folds.

    Returns:
        one entry an attribute; empty where a class has fewer than ten cases.
    """
    counts = np.bincount(labels, minlength=2)
    if counts.min() < _FEWEST:
        return []
    names = list(dict.fromkeys(name for item in attributes for name in item))
    found = []
    for name in names:
        values = [item.get(name, "") for item in attributes]
        if len(set(values)) > 1:
            found.append((name, values, _predictions(_as_numbers(values), labels, seed)))
    p_values = _holm([_p_value(predictions, labels) for _, _, predictions in found])
    shortcuts = [
        Shortcut(
            name,
            float(roc_auc_score(labels, predictions)),
            p_value,
            *(_typical([value for value, one in zip(values, labels) if one == label]) for label in (0, 1)),
        )
        for (name, values, predictions), p_value in zip(found, p_values)
    ]
    return sorted(shortcuts, key=lambda shortcut: -shortcut.auroc)


def _as_numbers(values: Sequence[float | str]) -> NDArray[np.float64]:
    if all(isinstance(value, float) for value in values):
        return np.array(values, dtype=np.float64)
    kinds = {value: number for number, value in enumerate(sorted(set(values), key=str))}
    return np.array([kinds[value] for value in values], dtype=np.float64)


def _predictions(values: NDArray[np.float64], labels: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    tree = DecisionTreeClassifier(max_leaf_nodes=_LEAVES, min_samples_leaf=3, random_state=seed)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    return cross_val_predict(tree, values[:, None], labels, cv=folds, method="predict_proba")[:, 1]


def _p_value(predictions: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """One-sided; cross-validated predictions of noise lean below 0.5, so the test errs on the safe side."""
    if predictions.min() == predictions.max():
        return 1.0
    return float(mannwhitneyu(predictions[labels == 1], predictions[labels == 0], alternative="greater").pvalue)


def _holm(p_values: Sequence[float]) -> list[float]:
    """P-values after Holm's correction for their number."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def _typical(values: Sequence[float | str]) -> str:
    if all(isinstance(value, float) for value in values):
        return f"{float(np.median(np.array(values, dtype=np.float64))):.4g}"
    names, counts = np.unique([str(value) for value in values], return_counts=True)
    return f"{names[counts.argmax()] or 'none'} ({counts.max() / len(values):.0%})"

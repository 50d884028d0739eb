"""Which detector is best, by held-out normal scans with and without synthetic anomalies, or by labelled cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["FEWEST_GROUPS", "Ranked", "Trial", "rank_trials"]

_LEVEL = 0.05
_RESAMPLES = 500
FEWEST_GROUPS = 8  # patients or groups of copies of a class; resampling fewer says too little
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trial:
    """What a detector, or a trivial one, says of the scans that it is judged by.

    Attributes:
        name: of the detector.
        clean: ``(n,)`` scores of the held-out normal scans.
        synthetic: by recipe ``(n,)`` scores of the same scans with an anomaly, NaN where none could be made.
        pixel_precision: by recipe the mean average precision of the pixels; empty for what does not localize.
        labelled: ``(m,)`` scores of labelled cases; empty where there are none.
        is_trivial: whether it is one of those to beat.
        seconds: that it took to fit.
    """

    name: str
    clean: Scores
    synthetic: Mapping[str, Scores]
    pixel_precision: Mapping[str, float] = field(default_factory=dict)
    labelled: Scores = field(default_factory=lambda: np.empty(0))
    is_trivial: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Ranked:
    """A detector's place.

    Attributes:
        trial: what it was judged by.
        value: the figure that it is ranked by, 0 to 1, 0.5 is guessing.
        interval: of 95 %.
        synthetic: mean AUROC over the recipes.
        synthetic_interval: of it.
        by_recipe: AUROC of each recipe.
        labelled: AUROC of the labelled cases; None where there are none.
        first: share of the resamples in which it is the best of the detectors, 0 to 1; trivial ones do not count.
        reason: why it is not usable, empty where it is.
    """

    trial: Trial
    value: float
    interval: tuple[float, float]
    synthetic: float
    synthetic_interval: tuple[float, float]
    by_recipe: Mapping[str, float]
    labelled: float | None
    first: float
    reason: str

    @property
    def is_usable(self) -> bool:
        """Whether it is better than guessing and than everything trivial."""
        return not self.reason


def rank_trials(
    trials: Sequence[Trial],
    groups: Sequence[str],
    labels: Sequence[int] = (),
    labelled_groups: Sequence[str] = (),
    seed: int = 0,
) -> list[Ranked]:
    """Rank detectors, the best first, the trivial ones among them.

    Without labelled cases the figure is the mean over recipes of the AUROC of scans with against scans without the
    anomaly; with them it is their AUROC. Intervals and the share of first places come from resampling the normal scans
    (labelled cases) by whole groups, the same resamples for all detectors.

    A detector is not usable where its interval reaches down to 0.5, where a trivial one is as good, or where there are
    fewer than eight patients or groups to judge by.

    Args:
        trials: of detectors and of trivial ones, on the same scans.
        groups: ``(n,)`` patient or group of copies of each held-out normal scan.
        labels: ``(m,)`` 0 or 1 of the labelled cases.
        labelled_groups: ``(m,)`` theirs.
        seed: of the resamples.
    """
    if not trials:
        return []
    rng = np.random.RandomState(seed)
    draws = [np.arange(len(groups)), *_resamples(groups, rng)]
    synthetic = np.array([[_mean_auroc(trial, rows) for rows in draws] for trial in trials])
    values = synthetic
    by_labels = len(labels) > 0
    if by_labels:
        truth = np.asarray(labels)
        picks = [np.arange(len(labels)), *_resamples(labelled_groups, rng, truth)]
        values = np.array([[_auroc_of(trial.labelled[rows], truth[rows]) for rows in picks] for trial in trials])
    trivial = np.array([trial.is_trivial for trial in trials])
    judges = labelled_groups if by_labels else groups
    count = (
        min(len({name for name, label in zip(judges, labels) if label == kind}) for kind in (0, 1))
        if by_labels
        else len(set(groups))
    )
    firsts = _first_places(values[:, 1:], trivial)
    best_trivial = max((i for i in range(len(trials)) if trivial[i]), key=lambda i: values[i, 0], default=None)
    found = []
    for i, trial in enumerate(trials):
        low, high = _interval(values[i, 1:])
        reason = ""
        if count < FEWEST_GROUPS:
            reason = f"too few to know: judged by {count} patients or groups of copies, {FEWEST_GROUPS} are needed"
        elif not low > 0.5:
            reason = "no better than guessing: its interval reaches 0.5"
        elif best_trivial is not None and not trivial[i] and values[i, 0] <= values[best_trivial, 0]:
            reason = f"no better than the {trials[best_trivial].name}"
        found.append(
            Ranked(
                trial,
                float(values[i, 0]),
                (low, high),
                float(synthetic[i, 0]),
                _interval(synthetic[i, 1:]),
                {name: _auroc(trial.clean, scores) for name, scores in trial.synthetic.items()},
                float(values[i, 0]) if by_labels else None,
                float(firsts[i]),
                reason,
            )
        )
    return sorted(found, key=lambda ranked: -ranked.value)


def _resamples(groups: Sequence[str], rng: np.random.RandomState, strata: NDArray | None = None) -> list[NDArray]:
    """Rows drawn by whole groups, of each class as many groups as it has."""
    names = np.asarray(groups, dtype=str)
    kinds = [np.ones(len(names), dtype=bool)] if strata is None else [strata == kind for kind in (0, 1)]
    members = [[np.flatnonzero((names == name) & kind) for name in np.unique(names[kind])] for kind in kinds]
    drawn = []
    for _ in range(_RESAMPLES):
        rows = [part[i] for part in members for i in rng.randint(len(part), size=len(part))]
        drawn.append(np.concatenate(rows))
    return drawn


def _mean_auroc(trial: Trial, rows: NDArray) -> float:
    clean = trial.clean[rows]
    return float(np.mean([_auroc(clean, scores[rows]) for scores in trial.synthetic.values()]))


def _auroc(normal: Scores, abnormal: Scores) -> float:
    """Area under the ROC curve; what is NaN among the abnormal is left out, 0.5 where nothing is left."""
    abnormal = abnormal[np.isfinite(abnormal)]
    if not len(normal) or not len(abnormal):
        return 0.5
    ordered = np.sort(normal)
    below, upto = np.searchsorted(ordered, abnormal, "left"), np.searchsorted(ordered, abnormal, "right")
    return float((below + upto).mean() / (2 * len(normal)))


def _auroc_of(scores: Scores, labels: NDArray) -> float:
    return _auroc(scores[labels == 0], scores[labels == 1])


def _first_places(values: NDArray, trivial: NDArray) -> NDArray:
    """Share of the resamples ``(trials, resamples)`` in which each is the best detector, ties shared."""
    competing = np.where(trivial[:, None], -np.inf, values)
    if trivial.all() or not values.shape[1]:
        return np.zeros(len(values))
    best = competing == competing.max(0, keepdims=True)
    best &= ~trivial[:, None]
    return np.asarray((best / best.sum(0, keepdims=True)).mean(1))


def _interval(values: NDArray) -> tuple[float, float]:
    low, high = np.quantile(values, (_LEVEL / 2, 1 - _LEVEL / 2))
    return float(low), float(high)

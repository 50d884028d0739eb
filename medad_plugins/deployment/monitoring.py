"""What the results of weeks say about whether a model still sees what it was calibrated on."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, ks_2samp

from medad_plugins.data.list_table import list_text
from medad_plugins.deployment.exchangeability import ExchangeabilityAlarm
from medad_plugins.errors import InputError
from medad_plugins.files import read_torch
from medad_plugins.scorers import Calibration

__all__ = ["FIGURES", "MonitoredScans", "Period", "Reference", "Watched", "read_results", "watch"]

logger = logging.getLogger(__name__)

# column of the results, and its name for readers
FIGURES = {"anomaly_score": "anomaly score", "input_mean": "mean intensity", "input_spread": "spread of intensities"}
_TEXTS = ("model_hash", "settings_hash", "input_size", "input_spacing")
_NEEDED = ("anomaly_score", "p_value", "is_anomalous", "alpha")


@dataclass(frozen=True)
class MonitoredScans:
    """The scans of one table of results that were scored, in its order.

    Attributes:
        name: of the table, for readers.
        figures: ``(n,)`` values by column, see `FIGURES`; NaN where the table does not say.
        p_values, flagged: ``(n,)``.
        normal: ``(n,)`` whether a scan is known to be normal.
        labelled: whether any scan of the table has a label.
        texts: values by column, and how many scans have each.
        alpha: the level that was decided at.
        unread: how many scans have no score.
    """

    name: str
    figures: dict[str, NDArray[np.float64]]
    p_values: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    normal: NDArray[np.bool_]
    labelled: bool
    texts: dict[str, Counter[str]]
    alpha: float
    unread: int

    def watched(self, normal_only: bool) -> NDArray[np.bool_]:
        """Which scans the alarm looks at."""
        return self.normal if normal_only else np.ones(self.normal.size, dtype=bool)


def read_results(path: str | os.PathLike[str]) -> MonitoredScans:
    """Read a ``results.csv``, or the one in a folder.

    Raises:
        InputError: there is no such table, it lacks a column, or no scan of it has a score.
    """
    file = Path(path)
    file = file / "results.csv" if file.is_dir() else file
    if not file.is_file():
        raise InputError("there is no table of results", where=file, todo="give results.csv files or their folders")
    rows = list(csv.DictReader(io.StringIO(list_text(file), newline="")))
    missing = [column for column in _NEEDED if not rows or column not in rows[0]]
    if missing:
        expected = f"the columns {', '.join(_NEEDED)} and rows"
        raise InputError("this is no table of results", where=file, expected=expected, found=f"no {missing[0]}")
    scored = [row for row in rows if _number(row["anomaly_score"]) is not None and _number(row["p_value"]) is not None]
    if not scored:
        raise InputError("no scan of the table has a score", where=file, todo="see its column error")
    labels = [row.get("label") or "" for row in scored]
    return MonitoredScans(
        name=file.parent.name if file.name == "results.csv" else file.stem,
        figures={name: np.array([_value(row.get(name)) for row in scored]) for name in FIGURES},
        p_values=np.array([float(row["p_value"]) for row in scored]),
        flagged=np.array([row["is_anomalous"].lower() == "true" for row in scored]),
        normal=np.array([label in ("0", "0.0") for label in labels]),
        labelled=any(labels),
        texts={name: Counter(row[name] for row in scored if row.get(name)) for name in _TEXTS},
        alpha=_value(scored[0]["alpha"]),
        unread=len(rows) - len(scored),
    )


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _value(text: str | None) -> float:
    value = _number(text)
    return math.nan if value is None else value


@dataclass(frozen=True)
class Reference:
    """What new scans are compared with: ``(n,)`` values by column, see `FIGURES`; one may be missing."""

    name: str
    figures: dict[str, NDArray[np.float64]]

    @classmethod
    def of_model(cls, path: str | os.PathLike[str]) -> Reference:
        """The normal scans that a model file remembers.

        Raises:
            InputError: it is no calibrated model.
        """
        if not Path(path).is_file():
            raise InputError("there is no trained model", where=path, todo="give --model of a trained bundle")
        content = read_torch(path, "model file", "use a model.pt written by a MedAD bundle")
        state = content.get("model", content) if isinstance(content, dict) else {}
        calibration = Calibration()
        own = {k.removeprefix("calibration."): v for k, v in state.items() if k.startswith("calibration.")}
        if not own or not own["reference_scores"].numel():
            raise InputError("the model is not calibrated", where=path, todo="train it, or give another --model")
        calibration.load_state_dict(own, strict=True)
        figures = {"anomaly_score": calibration.reference_scores.numpy().astype(np.float64)}
        if len(inputs := calibration.reference_inputs.numpy().astype(np.float64)):
            figures |= {"input_mean": inputs[:, 0], "input_spread": inputs[:, 1]}
        return cls(f"the model's {calibration.reference_scores.numel()} normal scans", figures)

    @classmethod
    def of_scans(cls, scans: MonitoredScans, normal_only: bool) -> Reference:
        """A period of which one knows that all was well."""
        chosen = scans.watched(normal_only)
        known = {name: values[chosen] for name, values in scans.figures.items()}
        figures = {name: values for name, values in known.items() if values.size and np.isfinite(values).all()}
        return cls(f"{scans.name} ({int(chosen.sum())} scans)", figures)


@dataclass(frozen=True)
class Period:
    """One table of results against the reference.

    Attributes:
        scans: of the table.
        watched: how many of them are compared.
        flagged: share of these, with its exact 95 % interval.
        differences: p-value of the two-sample Kolmogorov-Smirnov test, by figure.
        medians: by figure.
    """

    scans: MonitoredScans
    watched: int
    flagged: tuple[float, float, float]
    differences: dict[str, float]
    medians: dict[str, float]


@dataclass(frozen=True)
class Watched:
    """All periods and the alarms over them.

    Attributes:
        reference: what was compared with.
        periods: in their order.
        alarms: by figure.
        rate: probability with which any of the alarms ever goes off although nothing has changed, at most.
        normal_only: whether only scans that are known to be normal were watched.
        remarks: what a reader should know.
    """

    reference: Reference
    periods: list[Period]
    alarms: dict[str, ExchangeabilityAlarm]
    rate: float
    normal_only: bool
    remarks: list[str]

    def alarm_at(self, figure: str, rate: float | None = None) -> int | None:
        """Number, from 1, of the scan at which a figure's alarm goes off; None where it has not.

        The rate is of all figures together, so each has its share of it.
        """
        return self.alarms[figure].first_above((self.rate if rate is None else rate) / len(self.alarms))


def watch(results: Sequence[MonitoredScans], reference: Reference | None = None, rate: float = 1e-4) -> Watched:
    """Compare periods with a reference.

    Where scans have labels, only those that are known to be normal are watched, for abnormal ones are no drift.

    Args:
        results: in the order of time.
        reference: e.g. a model's; None takes the first period, which is then not watched.
        rate: see `Watched`.

    Raises:
        InputError: there is nothing to compare.
    """
    if not 0 < rate < 1:
        raise InputError("the rate is out of range", where="--false_alarms", expected="between 0 and 1", found=rate)
    remarks, normal_only = [], any(scans.labelled for scans in results)
    if not normal_only and reference is not None:
        remarks.append(
            "No scan has a label, so abnormal scans count too: where there are any, their scores are higher than those "
            "of the model's normal scans. Leave --model out to compare with the first period."
        )
    if reference is None:
        if len(results) < 2:
            todo = "give --model, or results of several periods of which the first is good"
            raise InputError("there is nothing to compare with", expected="a model or two tables", found=1, todo=todo)
        reference, results = Reference.of_scans(results[0], normal_only), results[1:]
    chosen = [scans.watched(normal_only) for scans in results]
    if not any(mask.any() for mask in chosen):
        raise InputError(
            "there is no scan to watch", expected="scans with label 0, or no labels", found="abnormal ones"
        )
    alpha = next((scans.alpha for scans in results if math.isfinite(scans.alpha)), 0.05)
    alarms = {}
    for name, values in reference.figures.items():
        new = np.concatenate([scans.figures[name][mask] for scans, mask in zip(results, chosen)])
        if np.isfinite(new).all():
            alarms[name] = ExchangeabilityAlarm(values, alpha).watch(new)
    if not alarms:
        raise InputError("there is nothing to compare with", where=reference.name, found="no figure in common")
    if missing := [FIGURES[name] for name in FIGURES if name not in alarms]:
        remarks.append(f"Not watched, for the reference or a table does not say it: {', '.join(missing)}.")
    for column in ("model_hash", "settings_hash"):
        found = sorted({value for scans in results for value in scans.texts[column]})
        if len(found) > 1:
            remarks.append(f"The results are of {len(found)} different {column.split('_')[0]}s: {', '.join(found)}.")
    periods = [_period(scans, mask, reference, list(alarms)) for scans, mask in zip(results, chosen)]
    return Watched(reference, periods, alarms, rate, normal_only, remarks)


def _period(scans: MonitoredScans, mask: NDArray[np.bool_], reference: Reference, names: Sequence[str]) -> Period:
    count, flagged = int(mask.sum()), int(scans.flagged[mask].sum())
    if not count:
        return Period(scans, 0, (math.nan, 0.0, 1.0), {}, {})
    interval: Any = binomtest(flagged, count).proportion_ci(0.95)
    own = {name: scans.figures[name][mask] for name in names}
    return Period(
        scans,
        count,
        (flagged / count, float(interval.low), float(interval.high)),
        {name: float(ks_2samp(values, reference.figures[name]).pvalue) for name, values in own.items()},
        {name: float(np.median(values)) for name, values in own.items()},
    )

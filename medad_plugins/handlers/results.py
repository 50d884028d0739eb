"""One row per case, kept as the cases come."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.data import MetaTensor

from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, write_json

__all__ = ["ResultsTable", "case_label", "merged_cases"]

logger = logging.getLogger(__name__)

COLUMNS = ("case_id", "image", "anomaly_score", "p_value", "is_anomalous", "alpha", "label", "error")


def merged_cases(engine: Engine) -> list[dict[str, Any]]:
    """The cases of the current iteration: what the list said of them and what postprocessing added.

    MONAI's evaluator keeps new keys in its output and the list's own columns in its batch, both decollated.
    """
    batch: Any = engine.state.batch
    output: Any = engine.state.output
    return [{**listed, **found} for listed, found in zip(batch, output, strict=True)]


def case_label(case: dict[str, Any]) -> int | None:
    """0 normal, 1 abnormal, None where it is not known."""
    label = case.get("label")
    return None if label is None or label == "" else int(label)


class ResultsTable:
    """Writes ``results.csv``, a row per case as soon as it is computed, and ``results.json`` with the same at the end.

    Columns: case_id, image (path), anomaly_score, p_value, is_anomalous, alpha, label (empty where unknown), error (the
    reason where a case could not be read; its figures are empty then).

    Args:
        output_dir: folder to write to.
        loader: where ``failures``, pairs of a case and a sentence, are found at the end; a plain loader has none.

    Raises:
        InputError: the folder cannot be written (at the start of the run); every case failed (at its end).
    """

    def __init__(self, output_dir: str | os.PathLike[str], loader: Iterable[Any]) -> None:
        self.output_dir, self.loader = Path(output_dir), loader
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose postprocessing is an `AnomalyPostprocessing`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.append)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    @property
    def path(self) -> Path:
        """The table that is being written."""
        return self.output_dir / "results.csv"

    def start(self, engine: Engine) -> None:
        """Begin a new table."""
        output_folder(self.output_dir)
        self.rows = []
        with self.path.open("w", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writeheader()

    def append(self, engine: Engine) -> None:
        """Add the cases of an iteration."""
        self._write([_row(case) for case in merged_cases(engine)])

    def finish(self, engine: Engine) -> None:
        """Add the cases that could not be read, write the JSON, say what was found."""
        done = len(self.rows)
        failures = list(getattr(self.loader, "failures", ()))
        self._write([{**_row(case), "error": reason} for case, reason in failures])
        write_json(self.output_dir / "results.json", self.rows)
        if failures and not done:
            todo = "see its column error"
            what = f"none of the {len(failures)} cases could be read, the first because: {failures[0][1].rstrip('.')}"
            raise InputError(what, where=self.path, todo=todo)
        flagged = sum(1 for row in self.rows if row["is_anomalous"])
        alpha = f" at alpha {self.rows[0]['alpha']:g}" if done else ""
        unread = f", {len(failures)} could not be read" if failures else ""
        logger.info("%d cases: %d anomalous%s%s; results in %s", done, flagged, alpha, unread, self.path)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        # opened anew each time: what is computed is on the disk even when the process is killed
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerows(rows)
        self.rows += rows


def _row(case: dict[str, Any]) -> dict[str, Any]:
    image = case["image"]
    path = image.meta.get("filename_or_obj", "") if isinstance(image, MetaTensor) else image
    row = {column: case.get(column) for column in COLUMNS}
    row.update(image=str(path), label=case_label(case), error=None)
    return row

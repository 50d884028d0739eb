"""One row per case, kept as the cases come."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from scipy.stats import false_discovery_control

from medad_plugins.claims import claim_folder, release_folder
from medad_plugins.engines import gather_list
from medad_plugins.errors import InputError
from medad_plugins.files import append_text, csv_text, output_folder, remove_file, write_csv, write_json
from medad_plugins.transforms import files_of_other_cases, remove_case_files

__all__ = [
    "ResultsTable",
    "case_label",
    "case_row",
    "control_false_discoveries",
    "in_list_order",
    "merged_cases",
    "write_results",
]

logger = logging.getLogger(__name__)

COLUMNS = (
    *("case_id", "image", "anomaly_score", "p_value", "is_anomalous", "alpha", "calibrated_on", "can_flag"),
    *("q_value", "is_discovery", "model_hash", "settings_hash"),
    *("input_mean", "input_spread", "input_size", "input_spacing", "label", "error"),
)


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


def in_list_order(rows: Sequence[Any], case_ids: Sequence[str], loader: Any) -> list[Any]:
    """Rows of all ranks in the order in which one process would have computed them.

    Args:
        rows: one for each case.
        case_ids: theirs.
        loader: has all ranks' ``cases``; a plain loader has none, and the rows stay as they are.
    """
    places = {case["case_id"]: place for place, case in enumerate(getattr(loader, "cases", ()))}
    order = sorted(range(len(rows)), key=lambda index: places.get(case_ids[index], -1))
    return [rows[index] for index in order]


class ResultsTable:
    """Writes ``results.csv``, a row per case as soon as it is computed, and ``results.json`` with the same at the end.

    Columns: case_id, image (path), anomaly_score, p_value, is_anomalous, alpha, calibrated_on (held-out normal scans
    behind the p-value), can_flag (whether these are enough for alpha), q_value and is_discovery (see
    `control_false_discoveries`; written at the end, for they depend on all cases of the list), what
    `medad_plugins.transforms.DescribeInputd` adds, label (empty where unknown), error (why a case could not be read or
    finished, its figures are empty then; or why a file of it could not be written). With several
    ranks, the first writes all cases in the end; until then rank 1 keeps its own in ``results.rank1.csv``, and so on.
    What an earlier run has left of the same cases (maps, masks, overlays, DICOM results) is removed at the start.

    Args:
        output_dir: folder to write to.
        loader: where ``failures``, pairs of a case and a sentence, are found at the end; a plain loader has none. Cases
            that an application handed over in memory are its own: no table is written of them.
        fdr: share of false alarms among the discoveries, between 0 and 1; None makes no discoveries.

    Raises:
        InputError: ``fdr`` is out of range; the folder cannot be written, or another run writes there (at the start of
            the run); every case failed (at its end).
    """

    def __init__(self, output_dir: str | os.PathLike[str], loader: Iterable[Any], fdr: float | None = None) -> None:
        if fdr is not None and not (isinstance(fdr, (int, float)) and 0 < fdr < 1):
            todo = "choose the share of false alarms among what is flagged, e.g. --fdr 0.1"
            raise InputError("fdr is out of range", expected="a number between 0 and 1", found=fdr, todo=todo)
        self.output_dir, self.loader, self.fdr = Path(output_dir), loader, fdr
        self.rows: list[dict[str, Any]] = []
        self.writes = True

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator whose postprocessing is an `AnomalyPostprocessing`."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.append)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    @property
    def path(self) -> Path:
        """The table that is being written, of this rank's cases until the end."""
        rank = idist.get_rank()
        return self.output_dir / (f"results.rank{rank}.csv" if rank else "results.csv")

    def start(self, engine: Engine) -> None:
        """Begin a new table."""
        self.rows = []
        self.writes = not _in_memory(getattr(self.loader, "cases", ()))
        if not self.writes:
            return
        folder = output_folder(self.output_dir)
        if idist.get_rank() == 0:
            claim_folder(folder)
            # of an earlier run, whose rows are no longer true of the files beside them
            for old in [folder / "results.json", *folder.glob("results.rank*.csv")]:
                if old != self.path and not _is_of_a_rank(old):
                    remove_file(old)
            others = files_of_other_cases(folder, [case["case_id"] for case in getattr(self.loader, "cases", ())])
            if others:
                logger.warning("%s also holds %d files of cases that are not in this run.", folder, others)
        remove_case_files(folder, [case["case_id"] for case in getattr(self.loader, "data", ())])
        write_csv(self.path, [COLUMNS])
        self._kept = 0

    def append(self, engine: Engine) -> None:
        """Add the cases of an iteration."""
        self.rows += [case_row(case, case.get("error") or None) for case in merged_cases(engine)]
        if not self.writes:
            return
        try:
            # at once: what is computed is on the disk even when the process is killed
            append_text(self.path, csv_text(map(_values, self.rows[self._kept :])))
            self._kept = len(self.rows)
        except InputError as error:
            logger.warning("%s Until then the rows are kept in memory only.", error)

    def finish(self, engine: Engine) -> None:
        """Put the cases of all ranks and those that could not be read into one table, say what was found."""
        failed = [case_row(case, reason) for case, reason in getattr(self.loader, "failures", ())]
        good, failed = (
            in_list_order(rows, [row["case_id"] for row in rows], self.loader)
            for rows in (gather_list(self.rows), gather_list(failed))
        )
        self.rows = good + failed
        control_false_discoveries(self.rows, self.fdr)
        path = self.output_dir / "results.csv"
        unwritten = [row["error"] for row in good if row["error"]]
        if self.writes and idist.get_rank() == 0:
            write_results(self.output_dir, self.rows)
            for part in self.output_dir.glob("results.rank*.csv"):
                remove_file(part)
            release_folder(self.output_dir)
        if failed and not good:
            todo = "see its column error"
            what = f"none of the {len(failed)} cases could be read, the first because: {failed[0]['error'].rstrip('.')}"
            raise InputError(what, where=path, todo=todo)
        flagged = sum(1 for row in good if row["is_anomalous"])
        alpha = f" at alpha {good[0]['alpha']:g}" if good else ""
        if self.fdr is not None:
            alpha += f", {sum(bool(row['is_discovery']) for row in good)} discoveries at fdr {self.fdr:g}"
        unread = f", {len(failed)} could not be read" if failed else ""
        place = f"; results in {path}" if self.writes else ""
        lost = f", files of {len(unwritten)} could not be written" if unwritten else ""
        logger.info("%d cases: %d anomalous%s%s%s%s", len(good), flagged, alpha, unread, lost, place)
        if unwritten and len(unwritten) == len(good):
            what = f"of none of the {len(good)} cases all files could be written, the first because: "
            raise InputError(what + unwritten[0].rstrip("."), where=path, todo="see its column error")


def control_false_discoveries(rows: Sequence[dict[str, Any]], fdr: float | None = None) -> None:
    """Add to each row of a work list ``q_value``, and ``is_discovery`` where a rate is given.

    The q-value is the p-value adjusted by Benjamini and Hochberg (1995): the lowest ``fdr`` at which the case is a
    discovery. Conformal p-values of one reference depend on each other, but positively, so that of the discoveries on
    average a share of at most ``fdr`` is normal (Bates et al., "Testing for outliers with conformal p-values", Annals
    of Statistics 2023). With few references nothing can be discovered: the lowest p-value is ``1 / (n + 1)``.

    Args:
        rows: of the whole list, those without a p-value are left as they are.
        fdr: share of normal scans among the discoveries, on average over lists.

    Example:
        >>> rows = [{"p_value": p} for p in (0.01, 0.02, 0.5, None)]
        >>> control_false_discoveries(rows, fdr=0.05)
        >>> [row["q_value"] for row in rows[:3]], [row["is_discovery"] for row in rows[:3]]
        ([0.03, 0.03, 0.5], [True, True, False])
    """
    judged = [row for row in rows if row.get("p_value") is not None]
    if not judged:
        return
    for row, q_value in zip(judged, false_discovery_control([row["p_value"] for row in judged], method="bh")):
        row["q_value"] = float(q_value)
        row["is_discovery"] = None if fdr is None else bool(q_value <= fdr)


def _in_memory(cases: Iterable[Any]) -> bool:
    return any(not isinstance(case["image"], (str, os.PathLike)) for case in cases)


def write_results(output_dir: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``results.csv`` and ``results.json``, each complete or not at all."""
    write_csv(output_dir / "results.csv", [COLUMNS, *map(_values, rows)])
    write_json(output_dir / "results.json", list(rows))


def _values(row: dict[str, Any]) -> list[Any]:
    return [row[column] for column in COLUMNS]


def _is_of_a_rank(path: Path) -> bool:
    """Whether it is another process's own table of this very run."""
    number = path.stem.removeprefix("results.rank")
    return number.isdigit() and 0 < int(number) < idist.get_world_size()


def case_row(case: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    """The columns of a case, with the reason where it could not be read."""
    image = case["image"]
    path = image.meta.get("filename_or_obj", "") if isinstance(image, MetaTensor) else image
    row = {column: case.get(column) for column in COLUMNS}
    row.update(image=str(path), label=case_label(case), error=error)
    return row

"""Running a benchmark: cell after cell, keeping each result as it comes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medad_plugins.benchmark.cells import finished_row, run_cell
from medad_plugins.benchmark.data_check import check_data
from medad_plugins.benchmark.page import write_benchmark_page
from medad_plugins.benchmark.plan import Cell, Plan
from medad_plugins.benchmark.table import markdown_table, write_csv
from medad_plugins.claims import claimed_folder
from medad_plugins.files import output_folder, write_text

__all__ = ["Results", "run_benchmark"]

logger = logging.getLogger(__name__)

Row = dict[str, Any]


class _Clock:
    """Time left, from how long cells of the same bundle took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def add(self, row: Row) -> None:
        self.seconds.setdefault(row["bundle"], []).append(row["seconds"])

    def left(self, cells: Sequence[Cell]) -> str:
        everything = [value for values in self.seconds.values() for value in values]
        if not everything:
            return "time left not known yet"
        usual = sum(everything) / len(everything)
        known = {bundle: sum(values) / len(values) for bundle, values in self.seconds.items()}
        minutes = sum(known.get(cell.bundle, usual) for cell in cells) / 60
        return f"about {minutes:.0f} min left" if minutes >= 1 else "less than a minute left"


@dataclass(frozen=True)
class Results:
    """What a benchmark found.

    Attributes:
        rows: of ``results.csv``: cells in the plan's order, then the trivial baselines.
        remarks: by data set, sentences of its audit.
    """

    rows: list[Row]
    remarks: dict[str, list[str]]


def run_benchmark(plan: Plan, bundles_dir: Path, output_dir: Path, finished_only: bool = False) -> Results:
    """Run what is not finished yet; what fails is reported and the rest goes on.

    With ``finished_only`` nothing is run: tables and pages show what there is.

    Writes ``results.csv``, ``results.md`` and ``benchmark.html`` after every cell, and a folder per data set with its
    audit and, per bundle and seed, the model, log, figures and report page of an ordinary run.

    Raises:
        InputError: the output folder cannot be written, another run writes there, or it has results of other settings
            (before anything is run).
    """
    with claimed_folder(output_folder(output_dir)):
        return _run(plan, bundles_dir, output_dir, finished_only)


def _run(plan: Plan, bundles_dir: Path, output_dir: Path, finished_only: bool) -> Results:
    cells = plan.cells()
    rows = {cell.name: row for cell in cells if (row := finished_row(cell, output_dir)) is not None}
    clock = _Clock()
    for row in rows.values():
        clock.add(row)
    waiting = [] if finished_only else [cell for cell in cells if cell.name not in rows]
    if rows:
        logger.info("%d of %d runs are finished already.", len(rows), len(cells))
    # what is only shown needs no audit of data sets that nothing was run on
    checked = [data for data in plan.datasets if not finished_only or (output_dir / data.name).is_dir()]
    checks = {data.name: check_data(data, plan.baselines, output_dir / data.name) for data in checked}
    baselines = [row for check in checks.values() for row in check.rows]
    remarks = {name: check.remarks for name, check in checks.items()}

    def write() -> list[Row]:
        ordered = [rows[cell.name] for cell in cells if cell.name in rows] + baselines
        _write(plan, ordered, remarks, output_dir)
        return ordered

    for number, cell in enumerate(waiting, start=1):
        log = cell.folder(output_dir) / "log.txt"
        left = clock.left(waiting[number - 1 :])
        logger.info("[%d/%d] %s, %s; log in %s", number, len(waiting), cell.name, left, log)
        rows[cell.name] = row = run_cell(cell, bundles_dir, output_dir)
        clock.add(row)
        _tell(row)
        write()
    result = write()
    logger.info("results in %s", output_dir / "benchmark.html")
    return Results(result, remarks)


def _tell(row: Row) -> None:
    if row["status"] != "done":
        logger.error("failed after %.0f s: %s", row["seconds"], row["error"])
        return
    auroc = "undefined" if row.get("auroc") is None else f"{row['auroc']:.3f}"
    logger.info("AUROC %s in %.0f s", auroc, row["seconds"])


def _write(plan: Plan, rows: Sequence[Row], remarks: Mapping[str, Sequence[str]], output_dir: Path) -> None:
    write_csv(output_dir / "results.csv", rows)
    write_text(output_dir / "results.md", markdown_table(plan, rows, remarks))
    write_benchmark_page(output_dir / "benchmark.html", plan, rows, remarks)

"""Running one cell of a benchmark in its own process, and keeping what came of it."""

from __future__ import annotations

import json
import logging
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from medad_plugins.benchmark.plan import Cell
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, write_json, written

__all__ = ["CELL_FILE", "finished_row", "flat_figures", "run_cell"]

logger = logging.getLogger(__name__)

CELL_FILE = "cell.json"

Row = dict[str, Any]


def run_cell(
    cell: Cell, bundles_dir: Path, output_dir: Path, *, tested: bool = True, seconds: float | None = None
) -> Row:
    """Train and test a bundle as its user would, in a process of its own.

    Writes ``cell.json`` (only when it is done) and ``log.txt``.

    Args:
        cell: what to run.
        bundles_dir: where the bundles are.
        output_dir: of the benchmark.
        tested: whether the data have a test set; without one a model is all that comes of it.
        seconds: after which it is stopped and has failed.

    Returns:
        the row of ``results.csv``: with every figure, or with ``status`` failed and the reason in ``error``.
    """
    folder = output_folder(cell.folder(output_dir))
    evaluation = folder / "test" / "evaluation.json"
    for path in (folder / CELL_FILE, evaluation):  # an earlier run's must not pass for this one's
        path.unlink(missing_ok=True)
    arguments = cell.arguments(bundles_dir, output_dir)
    row: Row = {"dataset": cell.dataset, "bundle": cell.bundle, "seed": cell.seed, "status": "failed", "error": ""}
    start, used = time.monotonic(), _children_seconds()
    status: int | None = None
    with (
        written(folder / "log.txt"),
        (folder / "log.txt").open("w", encoding="utf-8") as log,
        suppress(subprocess.TimeoutExpired),
    ):
        command = [sys.executable, *arguments]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
        status = subprocess.run(command, check=False, timeout=seconds, **streams).returncode
    # what it computed, too: on a busy machine the time that passed says little
    row.update(seconds=round(time.monotonic() - start, 1), cpu_seconds=round(_children_seconds() - used, 1))
    row.update(command=shlex.join(["python", *arguments]))
    if status is None:
        row["error"] = f"stopped after {seconds:.0f} s, when its time was up"
    elif status == 0 and not tested:
        row["status"] = "done"
        write_json(folder / CELL_FILE, {"arguments": _settings(cell), "row": row})
    elif status == 0 and evaluation.is_file():
        row.update(status="done", **flat_figures(json.loads(evaluation.read_text(encoding="utf-8"))))
        write_json(folder / CELL_FILE, {"arguments": _settings(cell), "row": row})
    elif status == 0:
        row["error"] = "the run has no labelled test case, so there is nothing to compare"
    else:
        row["error"] = _reason(folder / "log.txt", status)
    return row


def _children_seconds() -> float:
    """CPU seconds of all processes that this one has started and that have ended, theirs included."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def finished_row(cell: Cell, output_dir: Path) -> Row | None:
    """The row of a cell that an earlier run has finished, None where there is none.

    Raises:
        InputError: it was run with other settings, which must not pass for these.
    """
    path = cell.folder(output_dir) / CELL_FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        row, settings = dict(content["row"]), content["arguments"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        todo = "remove the file, and the cell is run again"
        raise InputError("the result of an earlier run cannot be read", where=path, todo=todo) from error
    if settings != _settings(cell):
        changed = sorted(k for k in {**settings, **_settings(cell)} if settings.get(k) != _settings(cell).get(k))
        raise InputError(
            "an earlier run of this cell had other settings",
            where=path.parent,
            found=f"another {', '.join(changed)}",
            todo="give another --output_dir, or remove this folder to run it again",
        )
    return row


def _settings(cell: Cell) -> dict[str, str]:
    return {key: str(value) for key, value in sorted(cell.keys.items())}


def _reason(log: Path, status: int) -> str:
    """The sentence a run ended with, else the first exception of the chain that it ended with."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for pattern in (r"error: (.+)", r"((?:\w+\.)*\w*(?:Error|Exception)\b.*)"):
        for line in lines[-300:]:
            if found := re.match(pattern, line):
                return found[1]
    if status < 0:
        return f"the process was ended by signal {-status}" + (" (out of memory?)" if status == -9 else "")
    return lines[-1] if lines else f"exit status {status}"


def flat_figures(evaluation: Mapping[str, Any]) -> Row:
    """The figures of ``evaluation.json`` as one level: intervals as ``_low`` and ``_high``, sizes as a prefix."""
    row: Row = {}
    for key, value in evaluation.items():
        if key.endswith("_95ci"):
            low, high = value or (None, None)
            row.update({key.replace("_95ci", "_low"): low, key.replace("_95ci", "_high"): high})
        elif key == "by_lesion_size":
            for stratum in value or ():
                limits = f"{stratum['from']:g}_{'up' if stratum['to'] is None else format(stratum['to'], 'g')}"
                own = {k: v for k, v in stratum.items() if k not in ("from", "to")}
                row.update({f"lesions_{limits}_{k}": v for k, v in flat_figures(own).items()})
        elif key == "run":
            row.update(value)
        elif not isinstance(value, (dict, list)):
            row[key] = value
    return row

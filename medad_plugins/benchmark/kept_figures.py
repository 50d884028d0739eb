"""Figures of a plan kept as data beside it, so that runs of many days and machines make one table."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medad_plugins.benchmark.plan import Plan
from medad_plugins.errors import InputError
from medad_plugins.files import write_text

__all__ = ["KeptFigures", "join_figures", "kept_file", "read_kept", "write_kept"]

logger = logging.getLogger(__name__)

Row = dict[str, Any]

# what tables show; a command or a version would name this machine
_KEPT = (
    "dataset",
    "bundle",
    "seed",
    "auroc",
    "auroc_low",
    "auroc_high",
    "average_precision",
    "accuracy",
    "false_positive_rate",
    "false_positive_rate_low",
    "false_positive_rate_high",
    "validation_f1_accuracy",
    "pixel_ap",
    "aupro",
    "dice_case_mean",
    "dice_pooled",
    "best_dice_pooled",
    "seconds",
    "cpu_seconds",
    "peak_memory_mib",
    "parameters",
    "n_normal",
    "n_abnormal",
    "n_masked",
)


@dataclass(frozen=True)
class KeptFigures:
    """What a plan's documents are written from.

    Attributes:
        rows: of cells and trivial baselines that are done, each with the ``settings`` that it was measured with.
        remarks: by data set, what its audit found.
    """

    rows: list[Row] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)


def kept_file(plan_file: Path) -> Path:
    """Where the figures of a plan are kept: beside it, ``yardstick.yaml`` in ``yardstick.json``."""
    return plan_file.with_suffix(".json")


def read_kept(path: Path) -> KeptFigures:
    """Figures that were kept; none where there is no file yet.

    Raises:
        InputError: the file is not one of these.
    """
    if not path.is_file():
        return KeptFigures()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return KeptFigures([dict(row) for row in content["rows"]], dict(content["remarks"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        todo = "restore the file, or remove it to begin anew"
        raise InputError("kept figures cannot be read", where=path, found=str(error), todo=todo) from error


def write_kept(path: Path, figures: KeptFigures) -> None:
    """Write the file, a line a row, so that a change of it can be read."""
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in figures.rows)
    remarks = json.dumps(figures.remarks, ensure_ascii=False, indent=1)
    write_text(path, f'{{"rows": [\n{rows}\n],\n"remarks": {remarks}}}\n')


def join_figures(
    plan: Plan, kept: KeptFigures, rows: Sequence[Row], remarks: Mapping[str, Sequence[str]]
) -> KeptFigures:
    """What is done of ``rows`` takes the place of what was kept, in the order of the plan.

    Kept figures of a bundle that the plan no longer has, or has with other settings, are left out and named in the log:
    a table has one setting a bundle. Rows of trivial baselines stay with their data set.

    Args:
        plan: the whole plan, not a part of it.
        kept: earlier figures.
        rows: of a run of the plan or of a part of it.
        remarks: by data set of that run.
    """
    settings = {(cell.dataset, cell.bundle): _settings(cell.keys) for cell in plan.cells()}
    found = {_key(row): row for row in kept.rows}
    for row in rows:
        if row["status"] == "done":
            own = {name: _rounded(row[name]) for name in _KEPT if row.get(name) is not None}
            own["settings"] = settings.get((row["dataset"], row["bundle"]), {})
            found[_key(row)] = own
    names = [data.name for data in plan.datasets]
    places = {cell: place for place, cell in enumerate(settings)}
    current = []
    for row in found.values():
        cell = (row["dataset"], row["bundle"])
        if row["dataset"] not in names:
            continue
        if row.get("seed") is not None and settings.get(cell) != row["settings"]:
            logger.info("left out, for the plan has other settings: %s on %s", row["bundle"], row["dataset"])
            continue
        current.append({**row, "seed": row.get("seed"), "status": "done", "error": ""})
    current.sort(key=lambda row: places.get((row["dataset"], row["bundle"]), len(places)))
    joined = {**kept.remarks, **{name: list(lines) for name, lines in remarks.items()}}
    return KeptFigures(current, {name: joined[name] for name in names if name in joined})


def _key(row: Mapping[str, Any]) -> tuple[str, str, int | None]:
    return row["dataset"], row["bundle"], row.get("seed")


def _settings(keys: Mapping[str, Any]) -> dict[str, str]:
    """Settings as text, of paths the file's name alone: folders differ between machines."""
    return {key: _without_folders(value) for key, value in sorted(keys.items()) if key != "dataset_dir"}


def _without_folders(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_without_folders(item) for item in value)}]"
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def _rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value

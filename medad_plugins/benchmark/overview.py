"""What every bundle finds, on one look: a table of bundles by data sets, and a column of a list of bundles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medad_plugins import files
from medad_plugins.benchmark.plan import Plan
from medad_plugins.benchmark.table import markdown_lines, mean_of
from medad_plugins.errors import InputError

__all__ = ["BELOW", "list_figures", "overview_table", "read_overview"]

Row = Mapping[str, Any]

BELOW = "↓"  # less than the best look-up of the nearest normal scan, which learns nothing
_BASELINE = "thumbnail nearest neighbour"
_HEADING = "AUROC, pixel AP"


def overview_table(plan: Plan, rows: Sequence[Row]) -> str:
    """Markdown, a line a bundle and a column a data set: AUROC and pixel AP, means over seeds.

    Bundles stand in the order of the first data set's AUROC. What is below the nearest thumbnail is marked; that is
    the last line. Empty where nothing is done.
    """
    done = [row for row in rows if row["status"] == "done"]
    names = [data.name for data in plan.datasets if any(row["dataset"] == data.name for row in done)]
    if not names:
        return ""
    trivial = {name: mean_of(_of(done, name, _BASELINE), "auroc") for name in names}
    bundles = sorted(
        dict.fromkeys(row["bundle"] for row in done if row["seed"] is not None),  # of equal ones the plan's first
        key=lambda bundle: [-(mean_of(_of(done, name, bundle), "auroc") or 0) for name in names],
    )
    lines = [["bundle", *names], ["---"] * (len(names) + 1)]
    lines += [[bundle, *(_cell(_of(done, name, bundle), trivial[name]) for name in names)] for bundle in bundles]
    lines.append([_BASELINE, *(_cell(_of(done, name, _BASELINE), None) for name in names)])
    return markdown_lines(lines)


def read_overview(text: str, dataset: str) -> dict[str, str]:
    """The cells of a data set's column in an `overview_table`, by bundle; those that are empty are left out.

    Raises:
        InputError: there is no such table, or no such column in it.
    """
    lines = [_split(line) for line in text.splitlines() if line.startswith("|")]
    header = next((line for line in lines if line[0] == "bundle" and dataset in line[1:]), None)
    if header is None:
        raise InputError("there is no overview of this data set", where=dataset, expected=f"| bundle | {dataset} | ...")
    start, column = lines.index(header) + 2, header.index(dataset)
    cells: dict[str, str] = {}
    for line in lines[start:]:
        if len(line) != len(header):
            break
        if line[column]:
            cells[line[0]] = line[column]
    return cells


def list_figures(path: Path, figures: Mapping[str, str]) -> None:
    """Write each bundle's figures into the last column of a document's list of bundles.

    The list is a Markdown table whose lines begin with ``| [NAME](``, and whose last column is headed by
    ``AUROC, pixel AP``. A bundle without figures keeps an empty cell.

    Raises:
        InputError: the document has no such list.
    """
    text = path.read_text(encoding="utf-8")
    if _HEADING not in text:
        raise InputError("the document has no list of bundles with figures", where=path, expected=f"| {_HEADING} |")

    def written(match: re.Match[str]) -> str:
        figure = figures.get(match[2], "")
        return f"{match[1]} {figure} |" if figure else f"{match[1]} |"

    files.write_text(path, re.sub(r"^(\| \[(\w+)\]\(bundles/.*\|)[^|\n]*\|$", written, text, flags=re.MULTILINE))


def _of(rows: Sequence[Row], dataset: str, bundle: str) -> list[Row]:
    return [row for row in rows if row["dataset"] == dataset and row["bundle"] == bundle]


def _cell(rows: Sequence[Row], trivial: float | None) -> str:
    auroc, pixels = mean_of(rows, "auroc"), mean_of(rows, "pixel_ap")
    if auroc is None:
        return ""
    mark = f" {BELOW}" if trivial is not None and round(auroc, 3) < round(trivial, 3) else ""
    return f"{auroc:.3f}{mark}" + ("" if pixels is None else f", {pixels:.2f}")


def _split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]

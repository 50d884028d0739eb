"""A short benchmark of all bundles, beside the figures that they had before a change."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medad_plugins import files
from medad_plugins.benchmark.table import markdown_lines
from medad_plugins.errors import InputError

__all__ = ["code_state", "fallen", "read_figures", "smoke_table", "write_figures"]

Row = Mapping[str, Any]

_FIGURES = ("auroc", "pixel_ap")
# What two processors, or two roundings of the same training, differ by at such lengths.
_NOISE = {"auroc": 0.03, "pixel_ap": 0.05}
_HEADER = ("bundle", "AUROC", "before", "difference", "pixel AP", "before", "difference", "CPU seconds", "before")
_COLUMNS = ("bundle", *_FIGURES, "cpu_seconds")


def code_state(package: Path, bundles_dir: Path) -> str:
    """Eight letters that name the state of the package and the bundles: another one after every change of a file."""
    digest = hashlib.sha256()
    for folder, kinds in ((package, ("*.py", "*.yaml")), (bundles_dir, ("configs/*.yaml",))):
        for path in sorted(path for kind in kinds for path in folder.rglob(kind)):
            digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


def write_figures(path: Path, rows: Sequence[Row]) -> None:
    """Keep the figures of the bundles that are done, for later comparisons; what the file had of others stays."""
    kept = read_figures(path) if path.is_file() else {}
    for row in rows:
        if row["status"] == "done" and row["seed"] is not None:
            kept[row["bundle"]] = {key: row.get(key) for key in _COLUMNS[1:]}
    lines = [[name, *(_written(kept[name][key]) for key in _COLUMNS[1:])] for name in sorted(kept)]
    files.write_csv(path, [list(_COLUMNS), *lines])


def read_figures(path: Path) -> dict[str, dict[str, float | None]]:
    """AUROC, pixel AP and CPU seconds by bundle, None where one is undefined.

    Raises:
        InputError: the file cannot be read or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {row["bundle"]: {key: float(row[key]) if row[key] else None for key in _COLUMNS[1:]} for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = f"a table with the columns {', '.join(_COLUMNS)}"
        raise InputError("earlier figures cannot be read", where=path, expected=expected, found=str(error)) from error


def smoke_table(rows: Sequence[Row], before: Mapping[str, Mapping[str, float | None]]) -> str:
    """Markdown, a line a bundle: each figure, what it was before, and the difference."""
    lines = [_HEADER, ["---"] * len(_HEADER)]
    for row in rows:
        if row["seed"] is None:
            continue
        if row["status"] != "done":
            lines.append([row["bundle"], f"failed, {row['error']}".replace("|", "\\|"), *[""] * (len(_HEADER) - 2)])
            continue
        old = before.get(row["bundle"], {})
        figures = [text for key in _FIGURES for text in _compared(row.get(key), old.get(key))]
        lines.append(
            [row["bundle"], *figures, _rounded(row.get("cpu_seconds"), 0), _rounded(old.get("cpu_seconds"), 0)]
        )
    return markdown_lines(lines)


def fallen(rows: Sequence[Row], before: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """A sentence for each bundle that failed, or finds less than before by more than another rounding explains."""
    sentences = []
    for row in rows:
        name, old = row["bundle"], before.get(row["bundle"], {})
        if row["status"] != "done":
            sentences.append(f"{name} failed: {row['error']}")
            continue
        for key in _FIGURES:
            now, then = row.get(key), old.get(key)
            if then is not None and (now is None or now < then - _NOISE[key]):
                sentences.append(f"{name} has {key} {_rounded(now, 3) or 'undefined'}, before {then:.3f}")
    return sentences


def _compared(now: float | None, then: float | None) -> list[str]:
    difference = "" if now is None or then is None else f"{now - then:+.3f}"
    return [_rounded(now, 3), _rounded(then, 3), difference]


def _rounded(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

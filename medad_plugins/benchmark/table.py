"""The results of a benchmark as a CSV file and as a Markdown table."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medad_plugins import files
from medad_plugins.benchmark.plan import DataSet, Plan
from medad_plugins.benchmark.survey import survey_figures
from medad_plugins.errors import InputError

__all__ = [
    "card_table",
    "columns",
    "describe_test_set",
    "insert_table",
    "markdown_lines",
    "markdown_table",
    "mean_of",
    "summary_rows",
    "write_csv",
]

Row = Mapping[str, Any]

_FIRST = ("dataset", "bundle", "seed", "status", "error", "auroc", "auroc_low", "auroc_high")
_LAST = ("command",)
COLUMNS = (
    "bundle",
    "AUROC [95 %]",
    "AP",
    "accuracy, false-positive rate at alpha",
    "accuracy at the validation-F1 threshold",
    "pixel AP",
    "AUPRO",
    "Dice, mean of cases",
    "Dice, pooled (bound)",
    "minutes (of a core)",
    "GiB",
    "M parameters",
)


def columns(data: DataSet) -> list[str]:
    """Headings of a data set's table."""
    return [*COLUMNS, *([f"survey, {data.survey}: AUROC / accuracy"] if data.survey else [])]


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All rows, each with every column that any has."""
    seen = dict.fromkeys(key for row in rows for key in row)
    middle = [key for key in seen if key not in _FIRST and key not in _LAST]
    columns = [*_FIRST, *middle, *_LAST]
    files.write_csv(path, [columns, *([row.get(column, "") for column in columns] for row in rows)])


def summary_rows(rows: Sequence[Row], data: DataSet) -> list[list[str]]:
    """The table of a data set: a line a bundle, best AUROC first, then the trivial baselines."""
    own = [row for row in rows if row["dataset"] == data.name]
    groups: dict[str, list[Row]] = {}
    for row in own:
        if row["status"] == "done":
            groups.setdefault(row["bundle"], []).append(row)
    bundles = {name: group for name, group in groups.items() if group[0]["seed"] is not None}
    baselines = {name: group for name, group in groups.items() if name not in bundles}
    lines = [
        _line(name, group, data)
        for kind in (bundles, baselines)
        for name, group in sorted(kind.items(), key=lambda item: -(mean_of(item[1], "auroc") or 0))
    ]
    for row in own:
        if row["status"] != "done":
            seed = "" if row["seed"] is None else f", seed {row['seed']}"
            lines.append([f"{row['bundle']}{seed}: failed, {row['error']}", *[""] * len(COLUMNS)])
    return [line[: len(columns(data))] for line in lines]


def markdown_table(plan: Plan, rows: Sequence[Row], remarks: Mapping[str, Sequence[str]]) -> str:
    """One section a data set.

    Args:
        plan: what was run.
        rows: of all cells and baselines.
        remarks: sentences to write under a data set's table, e.g. what the audit found.
    """
    parts = []
    for data in plan.datasets:
        lines = summary_rows(rows, data)
        if not lines:
            continue
        header = columns(data)
        table = [header, ["---"] * len(header), *lines]
        own = [row for row in rows if row["dataset"] == data.name]
        about = ". ".join(text for text in (describe_test_set(own), data.about) if text)
        parts.append(f"**{data.name}**: {about}." if about else f"**{data.name}**")
        parts.append(markdown_lines([cell.replace("|", "\\|") for cell in line] for line in table).rstrip("\n"))
        parts += [f"{remark}" for remark in remarks.get(data.name, ())]
    return "\n\n".join(parts) + "\n"


def card_table(plan: Plan, rows: Sequence[Row], bundle: str) -> str:
    """The text of a model card on one bundle: a line a data set, and the best trivial baseline; may be empty."""
    header = ["data set", *COLUMNS[1:-2], "best trivial baseline", "survey: AUROC / accuracy"]
    table = []
    for data in plan.datasets:
        lines = summary_rows(rows, data)
        own = [line for line in lines if line[0] == bundle or line[0].startswith(f"{bundle} (")]
        if not own:
            continue
        names = {row["bundle"] for row in rows if row["seed"] is None}
        best = next((f"{line[0]}, {line[1]}" for line in lines if line[0] in names), "")
        survey = own[0][len(COLUMNS)] if data.survey else ""
        table.append([data.name, *own[0][1 : len(COLUMNS) - 2], best, survey])
    if not table:
        return ""
    lines = [header, ["---"] * len(header), *table]
    return markdown_lines(lines)


def markdown_lines(lines: Iterable[Iterable[str]]) -> str:
    """A Markdown table of rows of cells, the header and what is below it being the first two."""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def describe_test_set(rows: Sequence[Row]) -> str:
    """What a data set's rows were tested on, in words; empty where no row has it."""
    for row in rows:
        if row.get("n_normal") is not None:
            masked = f" ({row['n_masked']} with a mask)" if row.get("n_masked") else ""
            return f"test set of {row['n_normal']} normal and {row['n_abnormal']} abnormal cases{masked}"
    return ""


def insert_table(path: Path, name: str, table: str) -> None:
    """Replace what stands between ``<!-- benchmark: NAME -->`` and ``<!-- end of benchmark -->`` in a document.

    Raises:
        InputError: the document is missing or has no such marks.
    """
    begin, end = f"<!-- benchmark: {name} -->", "<!-- end of benchmark -->"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("the document cannot be read", where=path, found=error.strerror) from error
    pattern = re.compile(f"({re.escape(begin)}\n).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(text):
        todo = "write these two lines where the table belongs"
        raise InputError(
            "the document has no place for the table", where=path, expected=f"{begin} and {end}", todo=todo
        )
    files.write_text(path, pattern.sub(lambda match: f"{match[1]}\n{table.strip()}\n\n{match[2]}", text))


def _line(name: str, group: Sequence[Row], data: DataSet) -> list[str]:
    seeds = f" ({len(group)} seeds)" if len(group) > 1 else ""
    survey = survey_figures(name, data.survey) if data.survey else None
    return [
        f"{name}{seeds}",
        _with_interval(group, "auroc"),
        _spread(group, "average_precision", 3),
        _decision(group),
        _spread(group, "validation_f1_accuracy", 2),
        _spread(group, "pixel_ap", 2),
        _spread(group, "aupro", 2),
        _spread(group, "dice_case_mean", 2),
        _pooled_dice(group),
        _minutes(group),
        _number(mean_of(group, "peak_memory_mib"), 1, 1 / 1024),
        _number(mean_of(group, "parameters"), 1, 1e-6),
        f"{survey[0]:.3f} / {survey[1]:.3f}" if survey else "",
    ]


def _values(group: Sequence[Row], key: str) -> list[float]:
    return [float(row[key]) for row in group if row.get(key) is not None]


def mean_of(group: Sequence[Row], key: str) -> float | None:
    """Mean of a figure over rows that have it; None where none has."""
    values = _values(group, key)
    return statistics.mean(values) if values else None


def _number(value: float | None, digits: int, unit: float = 1.0) -> str:
    return "" if value is None else f"{value * unit:.{digits}f}"


def _spread(group: Sequence[Row], key: str, digits: int) -> str:
    """Mean over seeds, with their standard deviation where there are several."""
    values = _values(group, key)
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return _number(mean_of(group, key), digits) + deviation


def _interval(group: Sequence[Row], key: str, digits: int) -> str:
    """The interval over cases; of several seeds, the mean of theirs."""
    low, high = mean_of(group, f"{key}_low"), mean_of(group, f"{key}_high")
    return "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"


def _with_interval(group: Sequence[Row], key: str) -> str:
    return _spread(group, key, 3) + _interval(group, key, 3)


def _pooled_dice(group: Sequence[Row]) -> str:
    """With the highest that any threshold would reach, which is no bound of the mean over cases."""
    bound = mean_of(group, "best_dice_pooled")
    return "" if bound is None else f"{_spread(group, 'dice_pooled', 2)} ({bound:.2f})"


def _minutes(group: Sequence[Row]) -> str:
    """How long it took, and how long one core would have computed: the second does not hang on other work."""
    computed = _number(mean_of(group, "cpu_seconds"), 1, 1 / 60)
    return _number(mean_of(group, "seconds"), 1, 1 / 60) + (f" ({computed})" if computed else "")


def _decision(group: Sequence[Row]) -> str:
    if mean_of(group, "accuracy") is None:
        return ""
    rate = _spread(group, "false_positive_rate", 2) + _interval(group, "false_positive_rate", 2)
    return f"{_spread(group, 'accuracy', 2)}, {rate}"

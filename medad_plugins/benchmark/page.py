"""The page of a benchmark: a table a data set, and the way to every run's own report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from medad_plugins.benchmark.plan import DataSet, Plan
from medad_plugins.benchmark.table import columns, describe_test_set, summary_rows
from medad_plugins.files import write_text
from medad_plugins.reports import html_page, table_html

__all__ = ["write_benchmark_page"]

_ABOUT = """<p>Every row is an ordinary run of a bundle: trained on normal scans, calibrated on held-out normal scans,
tested once. Intervals are 95 % intervals over the test cases (patients where they are known); of several seeds, the
mean of theirs, and &plusmn; is the standard deviation over seeds. The lower rows are trivial detectors: what a method
does not beat there, it has not learnt. The bound on Dice takes its threshold from the truth and is no result.</p>
"""


def write_benchmark_page(
    path: Path, plan: Plan, rows: Sequence[Mapping[str, Any]], remarks: Mapping[str, Sequence[str]]
) -> None:
    """Write the page, self-contained but for its links to the reports beside it.

    Args:
        path: HTML file.
        plan: what was run.
        rows: of all cells and baselines.
        remarks: sentences on a data set, e.g. what the audit found.
    """
    parts = [f"<h1>Benchmark: {escape(plan.name)}</h1>\n", _ABOUT]
    for data in plan.datasets:
        own = [row for row in rows if row["dataset"] == data.name]
        if own:
            parts.append(_section(data, own, remarks.get(data.name, ())))
    write_text(path, html_page(f"Benchmark: {plan.name}", "".join(parts)))


def _section(data: DataSet, rows: Sequence[Mapping[str, Any]], remarks: Sequence[str]) -> str:
    about = ". ".join(text for text in (describe_test_set(rows), data.about) if text)
    parts = [f"<h2>{escape(data.name)}</h2>\n", f"<p>{escape(about)}.</p>\n" if about else ""]
    parts += [f'<p class="note">{escape(remark)}</p>\n' for remark in remarks]
    parts.append(table_html(columns(data), summary_rows(rows, data)))
    links = [
        f'<a href="{escape(_report(row))}">{escape(row["bundle"])}, seed {row["seed"]}</a>'
        for row in rows
        if row["status"] == "done" and row["seed"] is not None
    ]
    audit = f'<a href="{escape(data.name)}/audit/audit.md">audit of the data</a>'
    parts.append(f"<p>Reports: {', '.join([*links, audit])}.</p>\n")
    return "".join(parts)


def _report(row: Mapping[str, Any]) -> str:
    return f"{row['dataset']}/{row['bundle']}/seed{row['seed']}/test/report.html"

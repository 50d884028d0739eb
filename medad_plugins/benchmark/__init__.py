"""Benchmarks: bundles by data sets by seeds, each an ordinary run, and the table of them."""

from __future__ import annotations

from medad_plugins.benchmark.plan import Cell, DataSet, Plan, find_bundles, quick_plan, read_plan
from medad_plugins.benchmark.runner import run_benchmark
from medad_plugins.benchmark.survey import survey_figures
from medad_plugins.benchmark.table import card_table, insert_table, markdown_table

__all__ = [
    "Cell",
    "DataSet",
    "Plan",
    "card_table",
    "find_bundles",
    "insert_table",
    "markdown_table",
    "quick_plan",
    "read_plan",
    "run_benchmark",
    "survey_figures",
]

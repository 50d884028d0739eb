"""How the choice of a start is compared with what test cases say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "benchmark_start.py"))


def _row(name: str, test: float, ball: float, shift: float, labelled: float | None = None, pixel: float = 0.5) -> Any:
    return {
        "detector": name,
        "test": test,
        "synthetic": (ball + shift) / 2,
        "lowest": ball,
        "recipes": {"ball": ball, "shift": shift},
        "pixels": {"ball": pixel} if pixel else {},
        "labelled": labelled,
        "first": 0.2,
        "usable": True,
        "minutes": 1.0,
    }


ROWS = [
    _row("padim", 0.80, 0.9, 0.5, pixel=0.4),
    _row("knn", 0.90, 0.7, 0.6, pixel=0.0),
    _row("ae", 0.60, 0.6, 0.5, pixel=0.1),
    _row("ensemble of padim, knn", 0.99, 0.99, 0.99),
]


def test_rules_are_compared_by_rank_and_by_what_the_choice_costs() -> None:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in TOOL["_rule_table"]({"heads": ROWS}).splitlines()
    ]
    found = {line[0]: line[1] for line in lines[2:]}
    # 0.70, 0.65, 0.55 against 0.80, 0.90, 0.60: one pair of three is exchanged; the ensemble does not count
    assert found["mean AUROC over kinds of anomaly"] == "0.50, 0.100"
    # what does not localize comes last by its map
    assert found["mean pixel AP"] == "-0.50, 0.100"
    assert found["labelled cases of val"] == ""


def test_a_table_is_ordered_by_the_test_cases() -> None:
    text = TOOL["_table"]("heads", ROWS)
    assert text.startswith("**heads** (1.0 minutes)")
    assert [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")][2:] == [
        "ensemble of padim, knn",
        "knn",
        "padim",
        "ae",
    ]


def test_what_is_taken_is_named_with_what_it_loses() -> None:
    rows = [*ROWS[:3], {**ROWS[3], "test": 0.85, "taken": True}]
    text = TOOL["_table"]("heads", rows)
    assert text.startswith("**heads** (1.0 minutes; what is taken loses 0.050)")
    assert "| ensemble of padim, knn (taken) |" in text

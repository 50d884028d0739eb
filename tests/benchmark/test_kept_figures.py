"""Figures kept beside a plan, and the documents that are written from them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from medad_plugins.benchmark import DataSet, Plan
from medad_plugins.benchmark.kept_figures import KeptFigures, join_figures, kept_file, read_kept, write_kept
from medad_plugins.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = "/data/of/this/machine"
PLAN = Plan(
    "mine",
    [DataSet("heads", {"dataset_dir": FOLDER}), DataSet("chests")],
    {"ae": {"weights": f"{FOLDER}/w.pth"}, "edc": {"layers": [1, 2]}},
)


def _row(dataset: str, bundle: str, auroc: float, seed: int | None = 0, **others: Any) -> dict[str, Any]:
    row = {"dataset": dataset, "bundle": bundle, "seed": seed, "status": "done", "error": "", "auroc": auroc}
    return row | {"command": f"python {FOLDER}", "torch": "2", "settings": {}} | others


def test_runs_of_two_machines_make_one_table(tmp_path: Path) -> None:
    path = kept_file(tmp_path / "mine.yaml")
    assert read_kept(path) == KeptFigures()
    rows = [_row("heads", "edc", 0.9), _row("heads", "thumbnail", 0.7, None), _row("heads", "ae", 0.8123456789)]
    write_kept(path, join_figures(PLAN, read_kept(path), rows, {"heads": ["leaks"]}))
    later = [_row("chests", "ae", 0.6), _row("heads", "edc", 0.95), {**_row("chests", "edc", 0.1), "status": "failed"}]
    figures = join_figures(PLAN, read_kept(path), later, {"chests": []})
    # in the order of the plan, baselines of a data set last; what failed is nothing to keep
    assert [(row["dataset"], row["bundle"], row["auroc"]) for row in figures.rows] == [
        ("heads", "ae", 0.81235),
        ("heads", "edc", 0.95),
        ("chests", "ae", 0.6),
        ("heads", "thumbnail", 0.7),
    ]
    assert figures.remarks == {"heads": ["leaks"], "chests": []}
    write_kept(path, figures)
    assert read_kept(path) == figures
    assert FOLDER not in path.read_text(encoding="utf-8") and "torch" not in path.read_text(encoding="utf-8")


def test_figures_of_other_settings_go(caplog: pytest.LogCaptureFixture) -> None:
    figures = join_figures(PLAN, KeptFigures(), [_row("heads", "ae", 0.8), _row("heads", "edc", 0.9)], {})
    other = Plan("mine", PLAN.datasets, {"ae": {"weights": "elsewhere/w.pth"}, "edc": {"layers": [1]}})
    with caplog.at_level(logging.INFO):
        left = join_figures(other, figures, [], {})
    # the same weights in another folder are the same setting
    assert [row["bundle"] for row in left.rows] == ["ae"]
    assert "edc on heads" in caplog.text


def test_a_faulty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"kept figures cannot be read.*mine\.json"):
        read_kept(path)


def test_documents_show_what_is_kept() -> None:
    """Each kept figure stands in results.md and in the card of its bundle, and no other does."""
    kept = read_kept(PROJECT / "tools" / "plans" / "yardstick.json")
    assert kept.rows
    results = (PROJECT / "docs" / "results.md").read_text(encoding="utf-8")
    for card in sorted(PROJECT.glob("bundles/*/docs/README.md")):
        bundle = card.parent.parent.name
        own = {row["dataset"]: row for row in kept.rows if row["bundle"] == bundle}
        block = re.search(r"<!-- benchmark: yardstick -->\n(.*?)<!-- end", card.read_text(encoding="utf-8"), re.DOTALL)
        assert block, f"{card} has no place for the figures of the yardstick"
        shown = re.findall(r"^\| (\w+) \| ([\d.]+)", block[1], re.MULTILINE)
        assert {name for name, _ in shown} == set(own), card
        for name, auroc in shown:
            same = [row["auroc"] for row in kept.rows if row["bundle"] == bundle and row["dataset"] == name]
            assert auroc == f"{sum(same) / len(same):.3f}", card
            assert f"| {bundle} | {auroc} " in results or f"| {bundle} ({len(same)} seeds) | {auroc} " in results

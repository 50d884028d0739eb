"""The overview of all bundles, and the figures in a list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medad_plugins.benchmark.overview import list_figures, overview_table, read_overview
from medad_plugins.benchmark.plan import DataSet, Plan
from medad_plugins.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
PLAN = Plan(name="both", datasets=(DataSet(name="heads"), DataSet(name="chests")), bundles={}, seeds=(0,))


def _row(
    dataset: str, bundle: str, auroc: float, pixel_ap: float | None = None, seed: int | None = 0
) -> dict[str, Any]:
    return {
        "dataset": dataset, "bundle": bundle, "seed": seed, "status": "done", "auroc": auroc, "pixel_ap": pixel_ap
    }  # fmt: skip


ROWS = [
    _row("heads", "ae", 0.7, 0.1),
    _row("heads", "padim", 0.8, 0.3, seed=0),
    _row("heads", "padim", 0.9, 0.5, seed=1),
    _row("chests", "ae", 0.66),
    {**_row("chests", "padim", 0.99), "status": "failed"},
    _row("heads", "thumbnail nearest neighbour", 0.75, seed=None),
    _row("chests", "thumbnail nearest neighbour", 0.65, seed=None),
]
TABLE = """| bundle | heads | chests |
| --- | --- | --- |
| padim | 0.850, 0.40 |  |
| ae | 0.700 ↓, 0.10 | 0.660 |
| thumbnail nearest neighbour | 0.750 | 0.650 |
"""


def test_a_line_a_bundle_and_what_a_thumbnail_beats_is_marked() -> None:
    assert overview_table(PLAN, ROWS) == TABLE
    assert overview_table(PLAN, []) == ""


def test_a_column_is_read_back() -> None:
    assert read_overview(f"text\n\n{TABLE}\nmore", "chests") == {"ae": "0.660", "thumbnail nearest neighbour": "0.650"}
    with pytest.raises(InputError, match="no overview of this data set: hands"):
        read_overview(TABLE, "hands")


def test_figures_go_into_the_list_and_those_of_before_go(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    head = "| bundle | method | AUROC, pixel AP |\n|---|---|---|\n"
    document.write_text(
        head + "| [ae](bundles/ae/docs/README.md) | rebuilt | 0.5 |\n"
        "| [vae](bundles/vae/docs/README.md) | rebuilt |  |\n| [other](https://a.b) | c | d |\n"
    )
    list_figures(document, {"vae": "0.700, 0.10"})
    assert document.read_text() == (
        head + "| [ae](bundles/ae/docs/README.md) | rebuilt | |\n"
        "| [vae](bundles/vae/docs/README.md) | rebuilt | 0.700, 0.10 |\n| [other](https://a.b) | c | d |\n"
    )
    document.write_text("no list")
    with pytest.raises(InputError, match="no list of bundles with figures"):
        list_figures(document, {})


def test_readme_has_the_figures_that_were_measured() -> None:
    """A figure is written down once, by the benchmark; the list of bundles repeats it."""
    measured = read_overview((PROJECT / "docs" / "results.md").read_text(encoding="utf-8"), "br35h_copyfree")
    listed = {
        line.split("[")[1].split("]")[0]: line.strip().strip("|").split("|")[-1].strip()
        for line in (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| [") and "(bundles/" in line
    }
    assert {name: figure for name, figure in listed.items() if figure} == {
        name: figure for name, figure in measured.items() if name in listed
    }

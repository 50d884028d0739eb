"""Tables of a benchmark."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from medad_plugins.benchmark import DataSet, Plan, card_table, insert_table, markdown_table
from medad_plugins.benchmark.cells import flat_figures
from medad_plugins.benchmark.table import COLUMNS, write_csv
from medad_plugins.errors import InputError


def _row(bundle: str, seed: int | None, auroc: float, **others: Any) -> dict[str, Any]:
    row = {"dataset": "Heads", "bundle": bundle, "seed": seed, "status": "done", "error": "", "auroc": auroc}
    return row | {"auroc_low": auroc - 0.02, "auroc_high": auroc + 0.01, "command": "python"} | others


PLAN = Plan(
    "mine", [DataSet("Heads", survey="Br35H", about="made up"), DataSet("Empty")], {"ae": {}, "edc": {}}, (0, 1)
)
ROWS = [
    _row("thumbnail nearest neighbour", None, 0.98),
    _row("ae", 0, 0.80, n_normal=5, n_abnormal=7, n_masked=6, accuracy=0.5, false_positive_rate=0.1),
    _row("ae", 1, 0.82, seconds=90.0, accuracy=0.6, false_positive_rate=0.2),
    _row("edc", 0, 0.95, parameters=2_500_000, dice_pooled=0.25, best_dice_pooled=0.5),
    {"dataset": "Heads", "bundle": "edc", "seed": 1, "status": "failed", "error": "no | memory", "command": "python"},
]


def test_markdown() -> None:
    text = markdown_table(PLAN, ROWS, {"Heads": ["80 % of them leak."]})
    lines = text.splitlines()
    assert lines[0] == "**Heads**: test set of 5 normal and 7 abnormal cases (6 with a mask). made up."
    table = [
        [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines if line[:1] == "|"
    ]
    assert {len(line) for line in table} == {len(COLUMNS) + 1}
    by_name = {line[0]: dict(zip(table[0], line, strict=True)) for line in table[2:]}
    # the best bundle first, baselines below all bundles, failures last
    assert list(by_name) == [
        "edc",
        "ae (2 seeds)",
        "thumbnail nearest neighbour",
        "edc, seed 1: failed, no / memory",
    ]
    assert by_name["ae (2 seeds)"]["AUROC [95 %]"] == "0.810 ± 0.014 [0.790, 0.820]"
    assert by_name["ae (2 seeds)"]["accuracy, false-positive rate at alpha"] == "0.55 ± 0.07, 0.15 ± 0.07"
    assert by_name["ae (2 seeds)"]["minutes (of a core)"] == "1.5"
    assert by_name["edc"]["M parameters"] == "2.5"
    assert by_name["edc"]["Dice, pooled (bound)"] == "0.25 (0.50)"
    assert by_name["edc"]["survey, Br35H: AUROC / accuracy"] == "0.999 / 0.994"
    assert by_name["thumbnail nearest neighbour"]["survey, Br35H: AUROC / accuracy"] == ""
    assert lines[-1] == "80 % of them leak."
    assert "Empty" not in text


def test_the_lines_of_one_bundle() -> None:
    header, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in card_table(PLAN, ROWS, "ae").splitlines()
    ]
    (line,) = (dict(zip(header, line, strict=True)) for line in lines)
    assert line["data set"] == "Heads" and line["AUROC [95 %]"] == "0.810 ± 0.014 [0.790, 0.820]"
    assert line["best trivial baseline"] == "thumbnail nearest neighbour, 0.980 [0.960, 0.990]"
    assert line["minutes (of a core)"] == "1.5" and line["survey: AUROC / accuracy"] == "0.972 / 0.935"
    assert card_table(PLAN, ROWS, "e") == ""


def test_csv_has_every_figure_of_every_row(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", ROWS)
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(ROWS)
    assert list(rows[0])[:4] == ["dataset", "bundle", "seed", "status"]
    assert list(rows[0])[-1] == "command"
    assert rows[2]["seconds"] == "90.0"
    assert rows[0]["seconds"] == rows[0]["seed"] == ""
    assert rows[4]["error"] == "no | memory"


def test_figures_become_one_level() -> None:
    evaluation = {
        "auroc": 0.9,
        "auroc_95ci": [0.8, 0.95],
        "aupro_95ci": None,
        "froc": {"thresholds": [1, 2]},
        "by_lesion_size": [{"from": 0, "to": 71, "pixel_ap": 0.2}, {"from": 71, "to": None, "pixel_ap_95ci": [0, 1]}],
        "run": {"torch": "2.13.0", "parameters": 7},
    }
    assert flat_figures(evaluation) == {
        "auroc": 0.9,
        "auroc_low": 0.8,
        "auroc_high": 0.95,
        "aupro_low": None,
        "aupro_high": None,
        "lesions_0_71_pixel_ap": 0.2,
        "lesions_71_up_pixel_ap_low": 0,
        "lesions_71_up_pixel_ap_high": 1,
        "torch": "2.13.0",
        "parameters": 7,
    }


def test_inserting_into_a_document(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("a\n<!-- benchmark: mine -->\nold\n<!-- end of benchmark -->\nb\n", encoding="utf-8")
    for _ in range(2):  # the marks stay
        insert_table(path, "mine", "new \\1\n")
        assert path.read_text(encoding="utf-8") == (
            "a\n<!-- benchmark: mine -->\n\nnew \\1\n\n<!-- end of benchmark -->\nb\n"
        )
    with pytest.raises(InputError, match="no place for the table.*benchmark: other"):
        insert_table(path, "other", "new")
    with pytest.raises(InputError, match="cannot be read"):
        insert_table(tmp_path / "none.md", "mine", "new")

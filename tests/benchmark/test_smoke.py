"""A short benchmark stands beside the figures from before a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from medad_plugins.benchmark.plan import find_bundles
from medad_plugins.benchmark.smoke import code_state, fallen, read_figures, smoke_table, write_figures
from medad_plugins.errors import InputError

_PROJECT = Path(__file__).resolve().parents[2]


def _row(bundle: str, auroc: float | None = None, **others: Any) -> dict[str, Any]:
    return {"bundle": bundle, "seed": 0, "status": "done", "error": "", "cpu_seconds": 9.6, "auroc": auroc, **others}


def test_figures_are_kept_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "smoke.csv"
    write_figures(path, [_row("edc", 0.9, pixel_ap=0.5), _row("knn", 0.75), _row("thumbnail", 0.7, seed=None)])
    write_figures(path, [_row("knn", 0.76), _row("ae", 0.7, status="failed", error="no space")])
    before = read_figures(path)
    assert before == {
        "edc": {"auroc": 0.9, "pixel_ap": 0.5, "cpu_seconds": 9.6},
        "knn": {"auroc": 0.76, "pixel_ap": None, "cpu_seconds": 9.6},
    }
    rows = [
        _row("edc", 0.88, pixel_ap=0.4),
        _row("knn", 0.8),
        _row("new", 0.5),
        _row("ae", status="failed", error="a|b"),
    ]
    assert smoke_table(rows, before).splitlines()[2:] == [
        "| edc | 0.880 | 0.900 | -0.020 | 0.400 | 0.500 | -0.100 | 10 | 10 |",
        "| knn | 0.800 | 0.760 | +0.040 |  |  |  | 10 | 10 |",
        "| new | 0.500 |  |  |  |  |  | 10 |  |",
        "| ae | failed, a\\|b |  |  |  |  |  |  |  |",
    ]
    # edc's AUROC is within what another processor does; its pixel AP is not
    assert fallen(rows, before) == ["edc has pixel_ap 0.400, before 0.500", "ae failed: a|b"]
    assert fallen([_row("edc")], before)[0] == "edc has auroc undefined, before 0.900"


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "smoke.csv"
    path.write_text("method,auroc\nedc,0.9\n", "utf-8")
    with pytest.raises(InputError, match=r"smoke\.csv.*expected a table with the columns bundle, auroc"):
        read_figures(path)


def test_every_change_of_the_code_is_another_state(tmp_path: Path) -> None:
    package, bundles = tmp_path / "package", tmp_path / "bundles"
    for path in (package / "a.py", bundles / "edc" / "configs" / "train.yaml", bundles / "edc" / "docs" / "README.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1", "utf-8")
    state = code_state(package, bundles)
    (bundles / "edc" / "docs" / "README.md").write_text("2", "utf-8")
    assert code_state(package, bundles) == state
    states = {state}
    for path in (package / "a.py", bundles / "edc" / "configs" / "train.yaml"):
        path.write_text("2", "utf-8")
        states.add(code_state(package, bundles))
    assert len(states) == 3


def test_the_smoke_plan_has_every_bundle() -> None:
    plan = yaml.safe_load((_PROJECT / "tools" / "plans" / "smoke.yaml").read_text("utf-8"))
    assert sorted(plan["bundles"]) == find_bundles(_PROJECT / "bundles")

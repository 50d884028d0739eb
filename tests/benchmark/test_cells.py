"""Cells of a benchmark: real processes of a bundle that does what its keys say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_bundle import write_scripted_bundle

from medad_plugins.benchmark import Cell
from medad_plugins.benchmark.cells import finished_row, run_cell
from medad_plugins.errors import InputError


def test_a_run_that_succeeds_is_kept(tmp_path: Path) -> None:
    bundles_dir = write_scripted_bundle(tmp_path)
    cell = Cell("heads", "scripted", 2, {"auroc": 0.25})
    assert finished_row(cell, tmp_path / "out") is None
    row = run_cell(cell, bundles_dir, tmp_path / "out")
    assert (row["status"], row["auroc"], row["torch"], row["error"]) == ("done", 2.25, "x", "")
    assert row["seconds"] > 0 and 0 < row["cpu_seconds"]
    assert row["command"].startswith("python -m monai.bundle run --config_file ")
    assert "--auroc 0.25 --seed 2" in row["command"]
    assert finished_row(cell, tmp_path / "out") == row
    with pytest.raises(InputError, match="had other settings.*found another auroc"):
        finished_row(Cell("heads", "scripted", 2, {"auroc": 0.5}), tmp_path / "out")
    path = cell.folder(tmp_path / "out") / "cell.json"
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(InputError, match="result of an earlier run cannot be read"):
        finished_row(cell, tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"aurok": 0.25}, "this bundle has no such key: --aurok"),
        ({"crash": "kill"}, "the process was ended by signal 9"),
    ],
)
def test_a_run_that_fails_says_why(tmp_path: Path, keys: dict[str, object], reason: str) -> None:
    bundles_dir = write_scripted_bundle(tmp_path)
    cell = Cell("heads", "scripted", 0, keys)
    row = run_cell(cell, bundles_dir, tmp_path / "out")
    assert row["status"] == "failed"
    assert reason in row["error"]
    assert finished_row(cell, tmp_path / "out") is None
    assert json.dumps(row)

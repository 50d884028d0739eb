"""A benchmark as a whole: what is finished stays, what fails is reported, what is left is run."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
from scripted_bundle import write_scripted_bundle

from medad_plugins.benchmark import DataSet, Plan, run_benchmark
from medad_plugins.errors import InputError


def _plan(crash: str) -> Plan:
    data = DataSet("heads", {"auroc": 0.25}, about="generated")
    return Plan("mine", [data], {"scripted": {"crash": ""}, "twin": {"crash": crash}})


def test_a_benchmark_goes_on_where_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundles_dir = write_scripted_bundle(tmp_path)
    (bundles_dir / "twin").symlink_to(bundles_dir / "scripted")
    output = tmp_path / "out"
    caplog.set_level(logging.INFO, "medad_plugins")
    rows = run_benchmark(_plan("kill"), bundles_dir, output).rows
    assert [(row["bundle"], row["status"]) for row in rows[:2]] == [("scripted", "done"), ("twin", "failed")]
    assert "[1/2] scripted on heads, seed 0" in caplog.text
    assert "[2/2] twin on heads, seed 0, less than a minute left" in caplog.text
    assert "failed after" in caplog.text
    # the sample cohort's trivial detectors stand beside the bundles
    baselines = {row["bundle"]: row["auroc"] for row in rows[2:]}
    nearest = {"thumbnail nearest neighbour", "field-of-view silhouette nearest neighbour"}
    assert baselines.keys() == {*nearest, "mean intensity", "intensity threshold"}
    localized = {row["bundle"] for row in rows[2:] if row.get("dice_case_mean") is not None}
    assert localized == {"intensity threshold"}
    assert all(0 <= auroc <= 1 for auroc in baselines.values())
    assert (output / "heads" / "audit" / "audit.md").is_file()
    log = output / "heads" / "scripted" / "seed0" / "log.txt"
    written, checked = log.stat().st_mtime_ns, (output / "heads" / "data_check.json").stat().st_mtime_ns

    # tables of what there is, without the failed one and without running it again
    rows = run_benchmark(_plan("kill"), bundles_dir, output, finished_only=True).rows
    assert [row["bundle"] for row in rows if row["seed"] is not None] == ["scripted"]
    assert "twin" not in (output / "results.md").read_text(encoding="utf-8")

    caplog.clear()
    rows = run_benchmark(_plan(""), bundles_dir, output).rows
    assert [(row["bundle"], row["status"]) for row in rows[:2]] == [("scripted", "done"), ("twin", "done")]
    assert "1 of 2 runs are finished already." in caplog.text
    assert log.stat().st_mtime_ns == written
    assert (output / "heads" / "data_check.json").stat().st_mtime_ns == checked
    with (output / "results.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["auroc"] for row in table[:2]] == ["0.25", "0.25"]
    assert "| scripted | 0.250 |" in (output / "results.md").read_text(encoding="utf-8")
    page = (output / "benchmark.html").read_text(encoding="utf-8")
    assert 'href="heads/scripted/seed0/test/report.html"' in page
    assert "mean intensity" in page

    changed = Plan("mine", [DataSet("heads", {"auroc": 0.75})], {"scripted": {"crash": ""}})
    with pytest.raises(InputError, match="had other settings"):
        run_benchmark(changed, bundles_dir, output)


def test_data_that_cannot_be_audited_does_not_stop_the_bundles(tmp_path: Path) -> None:
    bundles_dir = write_scripted_bundle(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    configs = bundles_dir / "scripted" / "configs" / "train.yaml"
    configs.write_text(configs.read_text(encoding="utf-8") + "dataset_dir: ''\n", encoding="utf-8")
    plan = Plan("mine", [DataSet("nothing", {"dataset_dir": str(empty)})], {"scripted": {}})
    (row,) = run_benchmark(plan, bundles_dir, tmp_path / "out").rows
    assert row["status"] == "done"
    assert "Not audited: the data folder is empty" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")

"""One process's part in an archive gives what the bundle's own inference gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import copy_bundle, read_map, read_table, run_config, small_values, write_cohort, write_scans
from monai.utils import set_determinism

from medad_plugins.archive import ArchiveWorker, infer_archive
from medad_plugins.data import find_cases
from medad_plugins.errors import InputError, find_input_error

BUNDLE = "padim"
KEYS = {"alpha": 0.6, "device": "cpu", "save": ["map"]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    root = copy_bundle(BUNDLE, folder)
    data = write_cohort(folder / "heads", 2)
    run_config(root, "train", dataset_dir=str(data), datalist="fitting.csv", **small_values(BUNDLE))
    return root


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    return write_scans(tmp_path / "scans", 2)


@pytest.fixture(autouse=True)
def process_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    set_determinism(None)


def test_rows_and_maps_are_those_of_inference(root: Path, scans: Path, tmp_path: Path) -> None:
    run_config(root, "inference", dataset_dir=str(scans), output_dir=str(tmp_path / "plain"), **KEYS)
    expected = json.loads((tmp_path / "plain" / "results.json").read_text())
    worker = ArchiveWorker(root, tmp_path / "out", KEYS)
    cases = find_cases(scans)
    rows = worker(cases[:2]) + worker(cases[2:])
    for row, other in zip(sorted(rows, key=lambda row: row["case_id"]), sorted(expected, key=lambda r: r["case_id"])):
        # a worker sees a part of the archive, so it knows no list of all p-values
        without = {"anomaly_score": 0, "q_value": None}
        assert row | without == other | without
        if row["error"] is None:
            assert row["anomaly_score"] == pytest.approx(other["anomaly_score"], rel=1e-4)
    for row in read_table(tmp_path / "plain"):
        if not row["error"]:
            theirs, ours = (read_map(tmp_path / name, row["case_id"]) for name in ("plain", "out"))
            np.testing.assert_allclose(ours.get_fdata(), theirs.get_fdata(), rtol=1e-4, atol=1e-4)
            np.testing.assert_array_equal(ours.affine, theirs.affine)


def test_what_is_done_is_not_computed_again(root: Path, scans: Path, tmp_path: Path) -> None:
    worker, cases = ArchiveWorker(root, tmp_path / "out", KEYS), find_cases(scans)
    before = worker(cases)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "maps").iterdir()}
    (good,) = (case for case in cases if case["case_id"] == "picture")
    worker.files._path(good).unlink()
    after = worker(cases)
    assert [row["case_id"] for row in after] == [row["case_id"] for row in before]
    again = {path.name for path, written in first.items() if path.stat().st_mtime_ns != written}
    assert again == {"picture.nii.gz"}


def test_a_scan_that_ends_processes_is_given_up_and_the_others_are_not(
    root: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, ends = find_cases(scans), []

    class Killed(BaseException):
        """Stands for the end of a process."""

    def deadly(worker: ArchiveWorker, batch: Any) -> None:
        for case in batch:
            worker.files.begin(case)
        if any(case["case_id"] == "slice" for case in batch):
            ends.append(len(batch))
            raise Killed
        worker.files.forget_attempts(batch)
        compute(worker, batch)

    compute = ArchiveWorker._compute
    monkeypatch.setattr(ArchiveWorker, "_compute", deadly)
    rows = None
    while rows is None:
        try:
            rows = ArchiveWorker(root, tmp_path / "out", KEYS)(cases)
        except Killed:
            assert len(ends) < 9
    assert ends == [4, 1, 1]
    errors = {row["case_id"]: row["error"] for row in rows}
    assert "ended at this scan 3 times" in errors["slice"]
    assert errors["picture"] is None and errors["exam"] is None


def test_settings_tell_another_model_from_this_one(root: Path, tmp_path: Path) -> None:
    settings = ArchiveWorker(root, tmp_path, KEYS).settings()
    assert settings["alpha"] == 0.6 and settings["network"] == "PaDiM" and len(settings["model"]) == 64
    json.dumps(settings)


def test_refusals(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a bundle"):
        ArchiveWorker(tmp_path, tmp_path, {})
    with pytest.raises(RuntimeError) as refused:
        ArchiveWorker(root, tmp_path, {"alhpa": 0.1})
    assert "did you mean --alpha" in str(find_input_error(refused.value))


def test_ray_is_named_where_it_is_missing(
    root: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'medad-plugins\[ray\]'"):
        infer_archive(root, scans, tmp_path / "out")

"""An archive on a real Ray cluster: every case once, whatever happens to the workers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import copy_bundle, read_table, run_config, small_values, write_cohort, write_scans
from monai.utils import set_determinism

pytest.importorskip("ray.data", reason="needs Ray: pip install 'medad-plugins[ray]'")

from medad_plugins.archive import infer_archive
from medad_plugins.errors import InputError

pytestmark = pytest.mark.ray

PROJECT = Path(__file__).resolve().parents[2]
COPIES = 12
KEYS = {"alpha": 0.6, "device": "cpu", "save": ["map"], "batch_size": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    root = copy_bundle("padim", folder)
    data = write_cohort(folder / "heads", 2)
    run_config(root, "train", dataset_dir=str(data), datalist="fitting.csv", **small_values("padim"))
    set_determinism(None)
    return root


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of scans of all formats, one of four damaged."""
    folder = tmp_path_factory.mktemp("archive")
    first = write_scans(folder / "visit0", 2)
    for index in range(1, COPIES):
        shutil.copytree(first, folder / f"visit{index}")
    return folder


def _workers() -> list[int]:
    """Ray's worker processes below this one."""
    parents, names = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
            pid = int(status.parent.name)
            parents[pid] = int(lines["PPid"])
            names[pid] = status.with_name("cmdline").read_text()
        except OSError:
            continue

    def is_below(pid: int) -> bool:
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    return [pid for pid, name in names.items() if "_RayWorker" in name and is_below(pid)]


def _finished(output: Path) -> int:
    return sum(1 for path in (output / "cases").glob("*.json") if path.name[0] != ".")


def _kill_halfway(output: Path, killed: list[int]) -> None:
    limit = time.monotonic() + 240
    while time.monotonic() < limit:
        if _finished(output) >= COPIES and (workers := _workers()):
            os.kill(workers[0], signal.SIGKILL)
            killed.append(_finished(output))
            return
        time.sleep(0.01)


@pytest.fixture(scope="module")
def killed_run(root: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """Two workers, one of which is killed halfway."""
    output = tmp_path_factory.mktemp("out")
    killed: list[int] = []
    watcher = threading.Thread(target=_kill_halfway, args=(output, killed), daemon=True)
    watcher.start()
    infer_archive(root, archive, output, workers=2, keys=KEYS)
    watcher.join(1)
    return output, killed


def test_every_case_is_there_once_though_a_worker_was_killed(
    killed_run: tuple[Path, list[int]], root: Path, archive: Path, tmp_path: Path
) -> None:
    output, killed = killed_run
    assert killed and killed[0] < 4 * COPIES, "nothing was killed while there was work"
    rows = read_table(output)
    assert len({row["case_id"] for row in rows}) == len(rows) == 4 * COPIES
    assert sum(bool(row["error"]) for row in rows) == COPIES
    assert len(list((output / "maps").iterdir())) == 3 * COPIES
    assert not list(output.rglob("*.attempts")) and not list((output / "cases").glob(".*"))
    run_config(root, "inference", dataset_dir=str(archive), output_dir=str(tmp_path), **KEYS)
    set_determinism(None)
    expected = read_table(tmp_path)
    assert [(row["case_id"], row["image"], row["is_anomalous"], row["error"]) for row in rows] == [
        (row["case_id"], row["image"], row["is_anomalous"], row["error"]) for row in expected
    ]
    for row, other in zip(rows, expected):
        if not row["error"]:
            assert float(row["anomaly_score"]) == pytest.approx(float(other["anomaly_score"]), rel=1e-4)


def test_a_stopped_run_goes_on(
    killed_run: tuple[Path, list[int]], root: Path, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, _ = killed_run
    before = read_table(output)
    maps = {path: path.stat().st_mtime_ns for path in (output / "maps").iterdir()}
    stopped = sorted((output / "cases").glob("*picture*.json"))[:3]
    for path in (*stopped, output / "results.csv", output / "results.json"):
        path.unlink()
    with caplog.at_level(logging.INFO, "medad_plugins"):
        infer_archive(root, archive, output, workers=1, keys=KEYS)
    after = read_table(output)
    assert [row["case_id"] for row in after] == [row["case_id"] for row in before]
    kept = [index for index, row in enumerate(before) if row["case_id"] not in {path.stem for path in stopped}]
    assert [after[index] for index in kept] == [before[index] for index in kept]
    again = {path.name.split(".")[0] for path, written in maps.items() if path.stat().st_mtime_ns != written}
    assert again == {path.stem for path in stopped}
    assert f"{4 * COPIES} cases, {3 * COPIES - 3} of them done before" in caplog.text


def test_other_settings_and_a_cluster_too_small_are_refused(
    killed_run: tuple[Path, list[int]], root: Path, archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="other settings"):
        infer_archive(root, archive, killed_run[0], keys=KEYS | {"alpha": 0.1})
    with pytest.raises(InputError, match="too small.*at least 99 GPU"):
        infer_archive(root, archive, tmp_path, workers=1, gpus_per_worker=99, keys=KEYS)


def test_what_a_worker_refuses_is_one_sentence(
    root: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "maps").write_text("a file where a folder should be")
    with pytest.raises(InputError) as refused:
        infer_archive(root, archive, tmp_path, workers=1, keys=KEYS)
    assert "maps" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_tool_on_the_command_line(root: Path, archive: Path, tmp_path: Path) -> None:
    command: list[Any] = [sys.executable, PROJECT / "tools" / "infer_archive.py", root]
    options = {"dataset_dir": archive / "visit0", "output_dir": tmp_path / "out", "workers": 1, "alpha": 0.6}
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 4
    assert "1 could not be read" in done.stderr and "Traceback" not in done.stderr

"""The job that sites and server are given: names, paths and numbers."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medad_plugins.errors import InputError
from medad_plugins.federated import write_job
from medad_plugins.federated.nvflare_arrays import to_arrays, to_tensors
from medad_plugins.scorers import Calibration

APP = Path(__file__).resolve().parents[2] / "apps" / "federated" / "job.py"
SITES: dict[str, dict[str, Any]] = {
    "north": {"dataset_dir": "/data/north", "least_cases": 20},
    "south": {"dataset_dir": "/scans", "bundle_root": "/srv/padim", "batch_size": 4},
    "server": {"weights": "/weights/resnet18.pth"},
}


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def test_every_site_gets_its_own_keys_and_those_of_all(tmp_path: Path) -> None:
    job = write_job(tmp_path / "padim", "/opt/padim", SITES, rounds=3, keys={"image_size": 64})
    meta = _read(job / "meta.json")
    assert meta["name"] == "padim" and meta["mandatory_clients"] == ["north", "south"] and meta["min_clients"] == 2
    assert meta["deploy_map"] == {"app_server": ["server"], "app_north": ["north"], "app_south": ["south"]}
    (workflow,) = _read(job / "app_server" / "config" / "config_fed_server.json")["workflows"]
    assert workflow["args"]["rounds"] == 3 and workflow["args"]["sites"] == ["north", "south"]
    keys = workflow["args"]["keys"]
    assert keys["image_size"] == 64 and keys["weights"] == "/weights/resnet18.pth" and keys["dataset_dir"]
    arguments = {}
    for site in ("north", "south"):
        (executor,) = _read(job / f"app_{site}" / "config" / "config_fed_client.json")["executors"]
        assert executor["tasks"] == ["train", "fit", "calibrate", "finish"]
        arguments[site] = executor["executor"]["args"]
    assert arguments["north"] == {
        "bundle_root": "/opt/padim",
        "least_cases": 20,
        "keys": {"image_size": 64, "dataset_dir": "/data/north"},
    }
    assert arguments["south"]["bundle_root"] == "/srv/padim"
    assert {path.suffix for path in job.rglob("*") if path.is_file()} == {".json"}, "no code travels"


@pytest.mark.parametrize(
    ("sites", "sentence"),
    [({"server": {}}, "there is no site"), ({"a,b": {}}, "name cannot be used: a,b"), ({"../a": {}}, "name cannot be")],
)
def test_impossible_sites_are_refused(sites: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        write_job(tmp_path, "/opt/padim", sites)


def test_states_survive_as_arrays() -> None:
    state = Calibration().state_dict() | to_tensors({"count": to_arrays(Calibration().state_dict())["pixel_quantiles"]})
    back = to_tensors(to_arrays(state))
    assert all(back[name].shape == value.shape and back[name].dtype == value.dtype for name, value in state.items())


def test_the_app_writes_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = tmp_path / "sites.json"
    sites.write_text(json.dumps(SITES), encoding="utf-8")
    arguments = [str(APP), "/opt/padim", "--sites", str(sites), "--job_dir", str(tmp_path / "job")]
    command = [sys.executable, *arguments, "--image_size", "64", "--rounds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (workflow,) = _read(tmp_path / "job" / "app_server" / "config" / "config_fed_server.json")["workflows"]
    assert workflow["args"]["keys"]["image_size"] == 64 and workflow["args"]["rounds"] == 2
    sites.write_text("[]", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match=r"^error: the list of sites cannot be read"):
        runpy.run_path(str(APP), run_name="__main__")

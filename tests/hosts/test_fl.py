"""Two sites in NVFlare's simulator, each a process: what the host carries is the federation of the plain calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import copy_bundle, run_config, small_values
from federated_sites import SHARES, assert_same_model, federate, site_keys, write_sites
from torch import Tensor

pytest.importorskip("nvflare", reason="needs NVFlare: pip install 'medad-plugins[fl]'")

pytestmark = [pytest.mark.fl, pytest.mark.usefixtures("process_settings")]

APP = Path(__file__).resolve().parents[2] / "apps" / "federated" / "job.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sites(tmp_path_factory.mktemp("sites") / "heads")


def _simulate(
    root: Path, folder: Path, sites: dict[str, dict[str, Any]], **keys: Any
) -> subprocess.CompletedProcess[str]:
    """Run the app as a hospital engineer does."""
    (folder / "sites.json").write_text(json.dumps(sites), encoding="utf-8")
    command = [sys.executable, str(APP), str(root), "--sites", str(folder / "sites.json"), "--output_dir", str(folder)]
    command += [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def _sites(data: Path, **others: Any) -> dict[str, dict[str, Any]]:
    return {site: {"dataset_dir": str(data), "datalist": f"{site}.csv", "least_cases": 1, **others} for site in SHARES}


def _state(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    return state


def test_padim_of_two_sites_is_the_pooled_one(data: Path, tmp_path: Path) -> None:
    values = small_values("padim")
    values.pop("max_iterations")  # one pass over each site's cases
    root = copy_bundle("padim", tmp_path)
    done = _simulate(root, tmp_path, _sites(data), **values)
    assert done.returncode == 0, done.stdout + done.stderr
    model = tmp_path / "server" / "models" / "model.pt"
    assert f"model in {model}" in done.stdout

    pooled = copy_bundle("padim", tmp_path / "pooled")
    run_config(pooled, "train", dataset_dir=str(data), datalist="fitting.csv", **values)
    federated = _state(model)
    assert_same_model(federated, _state(pooled / "models" / "model.pt"))
    for site in SHARES:
        kept = _state(tmp_path / site / "models" / "model.pt")
        assert all(torch.equal(kept[name], value) for name, value in federated.items())


def test_ae_of_several_rounds_is_that_of_the_plain_calls(data: Path, tmp_path: Path) -> None:
    values = small_values("ae", max_iterations=100)
    root = copy_bundle("ae", tmp_path)
    done = _simulate(root, tmp_path, _sites(data), rounds=2, **values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 2 of 2, normal cases to train on: north 2, south 4." in done.stdout + done.stderr
    federated = _state(tmp_path / "server" / "models" / "model.pt")
    plain, _ = federate(root, site_keys(data, tmp_path / "plain"), tmp_path / "plain", 2, **values)
    assert_same_model(federated, _state(plain))
    assert federated["calibration.reference_scores"].shape == (4,)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_site_that_refuses_ends_the_federation_with_a_sentence(data: Path, tmp_path: Path) -> None:
    done = _simulate(copy_bundle("ae", tmp_path), tmp_path, _sites(data, least_cases=3), **small_values("ae"), rounds=1)
    assert done.returncode == 1
    assert "too few normal cases to train on" in done.stdout + done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: the federation did not come to an end")
    assert not (tmp_path / "server" / "models" / "model.pt").exists()

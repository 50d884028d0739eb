"""Bundles on the command line, from wherever: one bundle for each question, all of them under ``slow``."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES, copy_bundle, read_table, small_values, write_cohort
from command_line import command, interrupt, run_command, succeed

STARTED = "training will take about"


def one_by_default(bundles: Iterable[str], chosen: str) -> list[Any]:
    """All bundles as parameters, all but one under ``slow``."""
    return [name if name == chosen else pytest.param(name, marks=pytest.mark.slow) for name in bundles]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "heads", 2)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder that holds copies of all bundles, so that outputs land below them as they would in the repository."""
    for bundle in BUNDLES:
        copy_bundle(bundle, tmp_path / "bundles")
    return tmp_path


def _is_trained(root: Path) -> bool:
    content = torch.load(root / "models" / "model.pt", weights_only=True)
    report = json.loads((root / "output" / "evaluation.json").read_text("utf-8"))
    return len(content["model"]["calibration.reference_scores"]) == 4 and report["n_abnormal"] == 2


@pytest.mark.parametrize("bundle", one_by_default(BUNDLES, BUNDLES[0]))
def test_train_infer_and_evaluate_from_the_repository_root(bundle: str, project: Path, cohort: Path) -> None:
    configs = f"bundles/{bundle}/configs"
    succeed(command(f"{configs}/train.yaml", dataset_dir=cohort, **small_values(bundle)), project)
    root = project / "bundles" / bundle
    assert _is_trained(root)
    # from here on the commands of two bundles differ in the bundle's path only
    succeed(command(f"{configs}/inference.yaml", dataset_dir=cohort), project)
    assert {path.name for path in (root / "output").iterdir()} >= {"results.csv", "results.json", "maps", "masks"}
    assert len(read_table(root / "output")) == 4
    succeed(command(f"{configs}/evaluate.yaml", dataset_dir=cohort), project)
    assert json.loads((root / "eval" / "evaluation.json").read_text("utf-8"))["n_normal"] == 2
    assert {path.name for path in project.iterdir()} == {"bundles"}, "everything lands below the bundle"


@pytest.mark.parametrize("bundle", one_by_default(BUNDLES, BUNDLES[1 % len(BUNDLES)]))
def test_train_from_inside_the_bundle(bundle: str, project: Path, cohort: Path) -> None:
    root = project / "bundles" / bundle
    succeed(command("configs/train.yaml", dataset_dir=cohort, **small_values(bundle)), root)
    assert _is_trained(root)


@pytest.mark.parametrize("bundle", one_by_default(BUNDLES, BUNDLES[2 % len(BUNDLES)]))
def test_train_from_elsewhere(
    bundle: str, project: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere, root = tmp_path_factory.mktemp("elsewhere"), project / "bundles" / bundle
    succeed(command(root / "configs" / "train.yaml", dataset_dir=cohort, **small_values(bundle)), elsewhere)
    assert _is_trained(root)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["train", pytest.param("inference", marks=pytest.mark.slow)])
@pytest.mark.parametrize("bundle", one_by_default(BUNDLES, BUNDLES[0]))
def test_wrong_folder_gives_one_sentence(bundle: str, name: str, tmp_path: Path) -> None:
    root = copy_bundle(bundle, tmp_path)
    done = run_command(command(root / "configs" / f"{name}.yaml", dataset_dir="no/such/folder"), tmp_path)
    lines = done.stderr.splitlines()
    assert done.returncode != 0
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "Traceback" not in done.stdout + done.stderr
    if name == "train":
        assert "no/such/folder" in lines[-1]


@pytest.mark.parametrize("bundle", one_by_default(BUNDLES, BUNDLES[0]))
def test_interrupted_training_tells_how_to_go_on(bundle: str, cohort: Path, tmp_path: Path) -> None:
    root = copy_bundle(bundle, tmp_path)
    endless = small_values(bundle, max_iterations=1_000_000)
    arguments = command(root / "configs" / "train.yaml", dataset_dir=cohort, **endless)
    status, _, errors = interrupt(arguments, tmp_path, lambda output: STARTED in output, signal.SIGINT)
    assert status != 0
    assert "--resume true" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert not (root / "models" / "model.pt").exists()

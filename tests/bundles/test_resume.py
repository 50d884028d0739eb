"""A training that is killed and resumed ends where an uninterrupted one ends, bit for bit."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES, copy_bundle, read_config, run_config, small_values, write_cohort
from command_line import command, interrupt, succeed

pytestmark = pytest.mark.usefixtures("process_settings")  # one thread, as the commands have
ITERATIONS = 120
STARTED = "training will take about"


def _keeps_checkpoints(bundle: str) -> bool:
    """Whether the training has several epochs, between which its state can be kept."""
    return "max_iterations" in read_config(bundle, "train")["train"]["dataloader"]


def _keys(bundle: str, cohort: Path) -> dict[str, Any]:
    handlers = read_config(bundle, "train")["train"]["handlers"]
    (index,) = [i for i, handler in enumerate(handlers) if handler["_target_"].endswith("StandardHandlers")]
    values = small_values(bundle, max_iterations=ITERATIONS, datalist="fitting.csv", dataset_dir=str(cohort))
    values[f"train::handlers::{index}::seconds"] = 0
    if _keeps_checkpoints(bundle):
        values["train::dataloader::epoch_length"] = 12
    return values


def _model(root: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(root / "models" / "model.pt", weights_only=True)["model"]
    return state


@pytest.mark.parametrize("kill", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.parametrize("bundle", [BUNDLES[0], *(pytest.param(b, marks=pytest.mark.slow) for b in BUNDLES[1:])])
def test_killed_training_resumes_to_the_same_weights(bundle: str, kill: int, tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path / "heads", 2)
    whole, broken = copy_bundle(bundle, tmp_path / "whole"), copy_bundle(bundle, tmp_path / "broken")
    keys, train = _keys(bundle, cohort), broken / "configs" / "train.yaml"
    run_config(whole, "train", **keys)

    stopped = broken / "models" / "model.pt.stopped"

    def is_under_way(output: str) -> bool:
        return stopped.exists() if _keeps_checkpoints(bundle) else STARTED in output

    status, _, _ = interrupt(command(train, **keys), tmp_path, is_under_way, kill)
    assert status == -kill
    assert stopped.exists() == _keeps_checkpoints(bundle)
    assert not (broken / "models" / "model.pt").exists(), "killed too late to show anything"

    output = succeed(command(train, **keys, resume="true"), tmp_path)
    assert ("continuing after iteration" in output) == _keeps_checkpoints(bundle)
    assert not stopped.exists()
    expected, found = _model(whole), _model(broken)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []

"""What stands in DDAD-ASR's train.yaml and in no other: a folder of unlabelled scans makes the second ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import copy_bundle, open_config, small_values, write_cohort
from monai.utils import set_determinism

pytestmark = pytest.mark.usefixtures("process_settings")


def test_unlabelled_scans_train_a_second_ensemble(tmp_path: Path) -> None:
    cohort = str(write_cohort(tmp_path / "cohort", 2))
    values: dict[str, Any] = small_values("ddad_asr", datalist="fitting.csv", dataset_dir=cohort)
    workflow = open_config(
        copy_bundle("ddad_asr", tmp_path), "train", **values, unlabelled_dir=cohort, unlabelled_list="fitting.csv"
    )
    network = workflow.network_def
    before = {name: value.clone() for name, value in network.named_parameters()}
    try:
        workflow.run()
    finally:
        set_determinism(None)
    moved = {name.split(".")[0] for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"normal", "mixed", "refiner"} and len(network.mixed) == len(network.normal) == 2
    assert network.refiner[0].in_channels == 2

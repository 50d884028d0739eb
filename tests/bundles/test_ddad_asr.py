"""What stands in DDAD-ASR's train.yaml and in no other: a folder of unlabelled scans makes the second ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bundle_runs import copy_bundle, open_config, parts_that_learn, small_values, write_cohort

pytestmark = pytest.mark.usefixtures("process_settings")


def test_unlabelled_scans_train_a_second_ensemble(tmp_path: Path) -> None:
    cohort = str(write_cohort(tmp_path / "cohort", 2))
    values: dict[str, Any] = small_values("ddad_asr", datalist="fitting.csv", dataset_dir=cohort)
    workflow = open_config(
        copy_bundle("ddad_asr", tmp_path), "train", **values, unlabelled_dir=cohort, unlabelled_list="fitting.csv"
    )
    network = workflow.network_def
    assert parts_that_learn(workflow) == {"normal", "mixed", "refiner"}
    assert len(network.mixed) == len(network.normal) == 2
    assert network.refiner[0].in_channels == 2

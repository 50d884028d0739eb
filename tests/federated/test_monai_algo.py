"""MONAI's own federated client runs every bundle: whatever host calls it, nothing of ours stands between."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import Trained, small_values
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.utils import set_determinism

pytestmark = [
    pytest.mark.usefixtures("process_settings"),
    pytest.mark.filterwarnings("ignore:executing the bundle config:UserWarning"),
]


@pytest.mark.slow_in_3d
def test_initialize_train_get_weights_evaluate(trained: Trained, tmp_path: Path) -> None:
    # the evaluation reads a model file before it is given weights
    root = Path(shutil.copytree(trained.root, tmp_path / trained.bundle))
    data: dict[str, Any] = {"dataset_dir": str(trained.data)}
    fitting = small_values(trained.bundle, spatial_dims=trained.spatial_dims, datalist="fitting.csv", **data)
    algo = MonaiAlgo(
        str(root),
        send_weight_diff=False,
        config_train_filename="configs/train.yaml",
        train_kwargs=fitting,
        config_evaluate_filename="configs/evaluate.yaml",
        eval_kwargs={**data, "device": "cpu", "save": []},
        eval_workflow_name="infer",
    )
    try:
        algo.initialize({ExtraItems.CLIENT_NAME: "north"})
        sent = algo.get_weights()
        before = {name: value.clone() for name, value in sent.weights.items()}  # what it gives goes on changing
        algo.train(sent)
        learnt = algo.get_weights()
        assert learnt.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] > 0
        figures = algo.evaluate(learnt).metrics
        algo.finalize()
    finally:
        set_determinism(None)
    assert learnt.weights.keys() == before.keys()
    changed = [name for name, value in learnt.weights.items() if not torch.equal(value, before[name])]
    assert "calibration.reference_scores" in changed and len(changed) > 2
    assert (figures["n_normal"], figures["n_abnormal"]) == (2, 2) and 0 <= figures["auroc"] <= 1

"""MONAI's own federated client runs every bundle: whatever host calls it, nothing of ours stands between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES, copy_bundle, run_config, small_values, write_cohort
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, FlStatistics
from monai.utils import set_determinism

pytestmark = [
    pytest.mark.usefixtures("process_settings"),
    pytest.mark.filterwarnings("ignore:executing the bundle config:UserWarning"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "heads", 2)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_initialize_train_get_weights_evaluate(bundle: str, data: Path, tmp_path: Path) -> None:
    root = copy_bundle(bundle, tmp_path)
    fitting: dict[str, Any] = small_values(bundle, dataset_dir=str(data), datalist="fitting.csv")
    run_config(root, "train", **fitting)
    algo = MonaiAlgo(
        str(root),
        send_weight_diff=False,
        config_train_filename="configs/train.yaml",
        train_kwargs=fitting,
        config_evaluate_filename="configs/evaluate.yaml",
        eval_kwargs={"dataset_dir": str(data), "device": "cpu", "save": []},
        eval_workflow_name="infer",
    )
    try:
        algo.initialize({ExtraItems.CLIENT_NAME: "north"})
        sent = algo.get_weights()
        before = {name: value.clone() for name, value in sent.weights.items()}  # what it gives goes on changing
        algo.train(sent)
        trained = algo.get_weights()
        assert trained.statistics[FlStatistics.NUM_EXECUTED_ITERATIONS] > 0
        figures = algo.evaluate(trained).metrics
        algo.finalize()
    finally:
        set_determinism(None)
    assert trained.weights.keys() == before.keys()
    changed = [name for name, value in trained.weights.items() if not torch.equal(value, before[name])]
    assert "calibration.reference_scores" in changed and len(changed) > 2
    assert (figures["n_normal"], figures["n_abnormal"]) == (2, 2) and 0 <= figures["auroc"] <= 1

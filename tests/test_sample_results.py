"""The built-in sample cohort means something: methods that learn solve it, networks that have learnt nothing do not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism
from sklearn.metrics import roc_auc_score

from medad_plugins.data import Cohort, FaultTolerantLoader, ScanFormat
from medad_plugins.engines import score_cases
from medad_plugins.methods.ae import ConvAE
from medad_plugins.methods.edc import EDC
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms import ScanPreprocessing

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_padim_detects_the_lesions_of_the_sample_cohort(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("models", "output")
    root = Path(shutil.copytree(BUNDLES / "padim", tmp_path / "padim", ignore=ignore))
    config = root / "configs" / "train.yaml"
    handlers = ConfigParser.load_config_file(config)["train"]["handlers"]
    no_pictures: dict[str, Any] = {f"train::handlers::{len(handlers) - 1}::test_pictures": 0}
    try:
        workflow = ConfigWorkflow(config_file=str(config), logging_file=False, device="cpu", **no_pictures)
        workflow.initialize()
        workflow.run()
    finally:
        set_determinism(None)
    figures = json.loads((root / "output" / "evaluation.json").read_text("utf-8"))
    assert (figures["n_normal"], figures["n_abnormal"]) == (60, 60)
    # from random weights; with the Gaussians on layer2's grid, as real scans want it, small lesions count less
    assert figures["auroc"] >= 0.9
    # the bound on false positives holds on average over calibrations; twice of it would be no accident
    assert figures["false_positive_rate"] <= 2 * 0.05 + 0.05


@pytest.fixture(scope="module")
def batches() -> list[dict[str, torch.Tensor]]:
    return list(FaultTolerantLoader(Cohort().test, ScanPreprocessing(ScanFormat(2, SIZE)), batch_size=20))


def _untrained_edc() -> AnomalyNetwork:
    return EDC(backbone="resnet18", weights="none")


def _untrained_autoencoder() -> AnomalyNetwork:
    return ConvAE(image_size=SIZE)


@pytest.mark.parametrize("build", [_untrained_edc, _untrained_autoencoder])
@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_untrained_networks_do_not_detect_them(
    build: type[AnomalyNetwork], reduction: str, batches: list[dict[str, torch.Tensor]]
) -> None:
    torch.manual_seed(0)
    network = build()
    network.pool = type(network.pool)(reduction)
    scored = list(score_cases(network, batches))
    assert len(scored) == 120
    auroc = roc_auc_score([case.label for case in scored], [case.score for case in scored])
    assert auroc < 0.75

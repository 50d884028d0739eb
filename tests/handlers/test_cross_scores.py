"""Calibration on the training scans themselves, each scored by a model that did not see it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.data import Cohort
from medad_plugins.data.hold_out import folds_of
from medad_plugins.engines import ModelFile
from medad_plugins.errors import InputError
from medad_plugins.handlers.cross_scores import cross_scores
from medad_plugins.methods.ae import ConvAE
from medad_plugins.methods.knn import KNN
from medad_plugins.scorers import Calibration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 normal scans of 20 patients, and none held out."""
    folder = tmp_path_factory.mktemp("data")
    rows = ["image,label,split,patient"]
    for number in range(22):
        field = np.kron(np.random.RandomState(number).rand(4, 4), np.ones((8, 8)))
        Image.fromarray((250 * field).astype(np.uint8)).save(folder / f"scan{number:02d}.png")
        rows.append(f"scan{number:02d}.png,0,train,{number % 20}")
    (folder / "datalist.csv").write_text("\n".join(rows))
    return folder


def _train(bundle: str, data: Path, folder: Path, **keys: Any) -> Path:
    model = folder / "model.pt"
    workflow = ConfigWorkflow(
        config_file=str(ROOT / "bundles" / bundle / "configs" / "train.yaml"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(ROOT / "bundles" / bundle),
        dataset_dir=str(data),
        output_dir=str(folder / "output"),
        ckpt_path=str(model),
        device="cpu",
        image_size=32,
        batch_size=8,
        calibration="cross",
        **keys,
    )
    workflow.initialize()
    workflow.run()
    return model


def test_every_scan_is_scored_by_a_memory_without_its_patient(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        model = _train("knn", data, tmp_path, backbone="resnet10", weights="none", neighbours=1)
    assert "calibrated on 22 held-out normal cases" in caplog.text and "at least" not in caplog.text
    network = ModelFile(model, "knn").rebuild(KNN)
    calibration = network.calibration
    assert calibration.can_flag(0.05) and calibration.reference_scores.numel() == 22
    assert calibration.reference_inputs.shape == (22, 2)
    # a scan's own memory holds it, at a distance of 0
    assert float(calibration.reference_scores.min()) > 1e-3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "output"], "folds leave nothing"


def test_what_is_trained_by_gradient_has_folds_too(data: Path, tmp_path: Path) -> None:
    model = _train("ae", data, tmp_path, max_iterations=2)
    calibration = ModelFile(model, "ae").rebuild(ConvAE).calibration
    assert calibration.reference_scores.numel() == 22
    again = _train("ae", data, tmp_path, max_iterations=2)
    assert torch.equal(
        ModelFile(again, "ae").rebuild(ConvAE).calibration.reference_scores, calibration.reference_scores
    )


def test_folds_hold_out_whole_patients_once(data: Path) -> None:
    every = Cohort(data, calibration="cross")
    assert len(every.train) == len(every.validation) == 22 and "in 5 folds" in every.describe()
    seen: list[str] = []
    for fold in range(5):
        cohort = Cohort(data, calibration="cross", fold=fold)
        out = {case["patient"] for case in cohort.validation}
        assert out.isdisjoint(case["patient"] for case in cohort.train)
        assert len(cohort.train) + len(cohort.validation) == 22
        seen += [case["case_id"] for case in cohort.validation]
    assert sorted(seen) == sorted(case["case_id"] for case in every.train)
    with pytest.raises(InputError, match=r"no such calibration.*held_out or cross"):
        Cohort(data, calibration="both")
    with pytest.raises(InputError, match="no configuration to train the folds by"):
        cross_scores(None)


def _nearest(memory: NDArray[np.float64], scans: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort(np.linalg.norm(scans[:, None] - memory[None], axis=2), axis=1)[:, 0]


def _gaussian(memory: NDArray[np.float64], scans: NDArray[np.float64]) -> NDArray[np.float64]:
    covariance = np.cov(memory.T) + 0.1 * np.eye(memory.shape[1])
    off = scans - memory.mean(0)
    return np.sqrt(np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off))


@pytest.mark.parametrize("score", [_nearest, _gaussian])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_twenty_normals_decide_and_keep_the_promise(score: Any, alpha: float) -> None:
    """600 trainings on 20 scans of 6 features; a fold's model and the final one are as the handler makes them."""
    random, rates = np.random.RandomState(0), []
    for draw in range(600):
        train, new = random.standard_t(4, (20, 6)), random.standard_t(4, (40, 6))
        cases = [{"case_id": f"{number:02d}"} for number in range(20)]
        references = []
        for fold in folds_of(cases, 5, draw):
            out = np.array([int(case["case_id"]) for case in fold])
            references.append(score(np.delete(train, out, axis=0), train[out]))
        calibration = Calibration()
        calibration.fit(torch.from_numpy(np.concatenate(references)), torch.rand(4))
        rates.append(np.mean([calibration.p_value(float(value)) <= alpha for value in score(train, new)]))
    error = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) <= alpha + 2 * error, (np.mean(rates), error)
    assert np.mean(rates) > 0.2 * alpha, "it decides"

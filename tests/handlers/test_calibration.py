"""What happens at the end of a training: calibrated, saved, tried on the test set."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image
from torch import Tensor, nn

from medad_plugins.data import FaultTolerantLoader, ScanFormat
from medad_plugins.engines import ModelFile
from medad_plugins.engines.scoring import _spread
from medad_plugins.errors import InputError
from medad_plugins.handlers import CalibrateAndSave, TestAtEnd
from medad_plugins.inferers import PrecisionInferer
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms import ScanPreprocessing

SETTINGS = {"network": {"gain": 1.0}, "image_size": 16}


class Brightness(AnomalyNetwork):
    """Its map is the scan, so a bright spot is an anomaly."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def anomaly_map(self, image: Tensor) -> Tensor:
        return image * self.gain


def _cases(folder: Path, count: int, label: int, seed: int = 0) -> list[dict[str, Any]]:
    """Dark scans; the abnormal ones have a bright spot."""
    folder.mkdir(exist_ok=True)
    random, cases = np.random.RandomState(seed), []
    for i in range(count):
        pixels = random.randint(0, 60 + i, (16, 16)).astype(np.uint8)
        mask = ""
        if label:
            pixels[4:8, 5:9] = 240
            truth = np.zeros((16, 16), dtype=np.uint8)
            truth[4:8, 5:9] = 255
            mask = str(folder / f"mask{label}_{seed}_{i}.png")
            Image.fromarray(truth).save(mask)
        name = f"case{label}_{seed}_{i}"
        Image.fromarray(pixels).save(folder / f"{name}.png")
        cases.append({"image": str(folder / f"{name}.png"), "case_id": name, "label": label, "mask": mask})
    return cases


def _loader(cases: list[dict[str, Any]]) -> FaultTolerantLoader:
    return FaultTolerantLoader(cases, ScanPreprocessing(ScanFormat(2, 16)), batch_size=3)


def _end_of_training(*handlers: Any) -> None:
    engine = Engine(lambda engine, batch: None)
    for handler in handlers:
        handler.attach(engine)
    engine.run([0])


def _calibrate(folder: Path, cases: list[dict[str, Any]], **arguments: Any) -> Brightness:
    network = Brightness().train()
    handler = CalibrateAndSave(
        folder / "models" / "model.pt", network, _loader(cases), "ae", SETTINGS, PrecisionInferer(), **arguments
    )
    _end_of_training(handler)
    return network


def test_held_out_cases_are_scored_kept_and_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    cases = _cases(tmp_path / "data", 19, 0)
    network = _calibrate(tmp_path, cases)
    pixels = np.stack([np.asarray(Image.open(case["image"]), dtype=np.float32).T / 255 for case in cases])
    np.testing.assert_allclose(network.calibration.reference_scores, np.sort(pixels.max((1, 2))), atol=1e-6)
    share = (pixels > network.calibration.pixel_threshold(0.05) + 1e-6).mean()
    assert share == pytest.approx(0.05, abs=0.015)
    assert network.training
    rebuilt = ModelFile(tmp_path / "models" / "model.pt", "ae").rebuild(Brightness)
    assert torch.equal(rebuilt.calibration.reference_scores, network.calibration.reference_scores)
    assert "calibrated on 19 held-out normal cases." in caplog.messages
    assert f"saved {tmp_path / 'models' / 'model.pt'}" in caplog.messages
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("alpha", "count", "needed"), [(0.05, 18, 19), (0.3, 2, 3), (0.01, 5, 99)])
def test_too_few_for_alpha_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, alpha: float, count: int, needed: int
) -> None:
    cases = _cases(tmp_path / "data", count, 0)
    _calibrate(tmp_path, cases, alpha=alpha)
    assert caplog.messages == [f"to flag anything at alpha {alpha}, at least {needed} are needed."]
    assert 1 / (needed + 1) <= alpha < 1 / needed


def test_a_broken_case_is_left_out(tmp_path: Path) -> None:
    cases = _cases(tmp_path / "data", 5, 0)
    Path(cases[2]["image"]).write_bytes(b"no image")
    assert len(_calibrate(tmp_path, cases, alpha=0.5).calibration.reference_scores) == 4


def test_nothing_to_calibrate_on(tmp_path: Path) -> None:
    cases = _cases(tmp_path / "data", 2, 0)
    for case in cases:
        Path(case["image"]).unlink()
    with pytest.raises(InputError, match="no held-out normal case could be read"):
        _calibrate(tmp_path, cases)
    assert not (tmp_path / "models" / "model.pt").exists()


def test_one_odd_scan_costs_the_calibration_that_scan_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Odd(Brightness):
        def anomaly_map(self, image: Tensor) -> Tensor:
            marked = image[:, :, :1, :1] > 0.9
            return torch.where(marked, torch.inf, image)

    cases = _cases(tmp_path, 5, 0)
    pixels = np.array(Image.open(cases[2]["image"]))
    pixels[:2, :2] = 255
    Image.fromarray(pixels).save(cases[2]["image"])
    network = Odd()
    _end_of_training(CalibrateAndSave(tmp_path / "models" / "model.pt", network, _loader(cases), "ae", SETTINGS))
    assert len(network.calibration.reference_scores) == 4
    assert f"left out {cases[2]['case_id']}: its anomaly map is not finite." in caplog.messages


def test_a_diverged_network_is_not_saved(tmp_path: Path) -> None:
    network = Brightness(float("nan"))
    loader = _loader(_cases(tmp_path / "data", 3, 0))
    handler = CalibrateAndSave(tmp_path / "model.pt", network, loader, "ae", SETTINGS)
    with pytest.raises(InputError, match="cannot be calibrated, so it was not saved .*not finite.*learning rate"):
        _end_of_training(handler)
    assert not (tmp_path / "model.pt").exists()


def test_a_folder_that_cannot_be_written_is_reported_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    trained = []
    engine = Engine(lambda engine, batch: trained.append(batch))
    CalibrateAndSave(tmp_path / "models" / "model.pt", Brightness(), [], "ae", SETTINGS).attach(engine)
    with pytest.raises(InputError, match="output folder cannot be written"):
        engine.run([0])
    assert trained == []


@pytest.mark.parametrize("edge", [100, 141, 200])
def test_pixels_are_taken_from_everywhere_in_a_large_volume(edge: int) -> None:
    """With a fixed step, these sizes would give the first one or two planes alone."""
    last_axis = torch.arange(edge, dtype=torch.int16).expand(edge, edge, edge).flatten()
    taken = _spread(last_axis)
    assert taken.numel() == 20_000
    assert float(taken.double().mean()) == pytest.approx((edge - 1) / 2, rel=0.05)
    assert len(set(taken.tolist())) == edge


def test_all_pixels_of_a_small_map_are_taken() -> None:
    pixels = torch.rand(20_000)
    assert torch.equal(_spread(pixels), pixels)


def _test_at_end(folder: Path, cases: list[dict[str, Any]], pictures: int = 300) -> Path:
    network = Brightness()
    held_out = _cases(folder / "data", 19, 0, seed=1)
    output = folder / "output"
    _end_of_training(
        CalibrateAndSave(folder / "model.pt", network, _loader(held_out), "ae", SETTINGS),
        TestAtEnd(cases, ScanPreprocessing(ScanFormat(2, 16)), network, output, batch_size=3, pictures=pictures),
    )
    return output


@pytest.mark.pictures
def test_the_saved_model_is_tried_on_the_test_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    cases = _cases(tmp_path / "data", 4, 0, seed=2) + _cases(tmp_path / "data", 4, 1, seed=3)
    output = _test_at_end(tmp_path, cases)
    figures = json.loads((output / "evaluation.json").read_text())
    assert figures["auroc"] == figures["sensitivity"] == 1 and figures["n_normal"] == figures["n_masked"] == 4
    assert len(list(output.rglob("*case1_3_*.png"))) == 4
    assert (output / "roc.png").is_file() and (output / "scores.png").is_file()
    saved, reported = caplog.messages.index(f"saved {tmp_path / 'model.pt'}"), len(caplog.messages) - 1
    assert saved < reported and caplog.messages[reported] == f"pictures and figures in {output}"


def test_no_pictures_of_a_large_test_set(tmp_path: Path) -> None:
    cases = _cases(tmp_path / "data", 2, 0, seed=2) + _cases(tmp_path / "data", 2, 1, seed=3)
    output = _test_at_end(tmp_path, cases, pictures=3)
    assert (output / "evaluation.json").is_file()
    assert not list(output.rglob("*case1_3_*.png"))


def test_without_labelled_cases_nothing_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="medad_plugins")
    cases = [{k: v for k, v in case.items() if k != "label"} for case in _cases(tmp_path / "data", 2, 0, seed=2)]
    output = _test_at_end(tmp_path, cases)
    assert caplog.messages[-1] == "there is no labelled test case, so nothing is reported."
    assert not output.exists()

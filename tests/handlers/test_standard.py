"""What happens around every training comes in one order, whatever the method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from medad_plugins.data import Cohort, ScanFormat
from medad_plugins.engines import TrainingSetup
from medad_plugins.handlers import StandardHandlers
from medad_plugins.inferers import scan_inferer
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms import ScanPreprocessing


@pytest.fixture
def setup(tmp_path: Path) -> TrainingSetup:
    scan = ScanFormat(image_size=32)
    return TrainingSetup(
        bundle="toy",
        network=AnomalyNetwork(),
        settings={"width": 3},
        scan=scan,
        cohort=Cohort(seed=0),
        preprocessing=ScanPreprocessing(scan),
        inferer=scan_inferer(scan),
        ckpt_path=tmp_path / "model.pt",
        output_dir=tmp_path / "output",
        tensorboard=True,
    )


def _names(handlers: StandardHandlers) -> list[str]:
    return [type(handler).__name__ for handler in handlers.handlers()]


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)


def test_a_training_by_gradient_keeps_resumes_shows_and_then_ends(setup: TrainingSetup) -> None:
    assert _names(StandardHandlers(setup, _optimizer())) == [
        "LookAtScans",
        "KeepBest",
        "ResumableCheckpoint",
        "TrainingProgress",
        "TrainingPictures",
        "TensorBoardLog",
        "CalibrateAndSave",
        "ForgetState",
        "TestAtEnd",
    ]


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ({"optimizer": None}, {"KeepBest", "TrainingPictures"}),
        ({"pictures": False}, {"TrainingPictures"}),
        ({"ends": False}, {"LookAtScans", "CalibrateAndSave", "ForgetState", "TestAtEnd"}),
    ],
)
def test_what_does_not_fit_a_method_is_left_out(
    setup: TrainingSetup, arguments: dict[str, Any], missing: set[str]
) -> None:
    whole = _names(StandardHandlers(setup, _optimizer()))
    assert _names(StandardHandlers(setup, **{"optimizer": _optimizer(), **arguments})) == [
        name for name in whole if name not in missing
    ]


def test_they_run_in_their_order(setup: TrainingSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    standard, seen = StandardHandlers(setup, _optimizer()), list[str]()
    handlers = standard.handlers()

    def note(name: str) -> Callable[[Engine], None]:
        return lambda engine: seen.append(name)

    for handler in handlers:
        monkeypatch.setattr(handler, "attach", note(type(handler).__name__))
    monkeypatch.setattr(standard, "handlers", lambda: handlers)
    standard.attach(Engine(lambda engine, batch: None))
    assert seen == [type(handler).__name__ for handler in handlers]


def test_a_model_says_how_its_scans_came(setup: TrainingSetup) -> None:
    settings = StandardHandlers(setup).calibrator().settings
    assert settings == {
        "network": {"width": 3},
        "spatial_dims": 2,
        "image_size": 32,
        "in_channels": 1,
        "slice_axis": None,
        "crop": None,
        "intensity": "auto",
        "equalize": False,
        "orientation": "upright",
        "paired": False,
        "roi_size": None,
        "spacing": None,
        "overlap": 0.25,
    }

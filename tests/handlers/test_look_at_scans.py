"""Scans that cannot be read are known before the training, not after it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from medad_plugins.data import ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.handlers import LookAtScans
from medad_plugins.transforms import ScanPreprocessing


def _cases(folder: Path, name: str, count: int, broken: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    cases = []
    for index in range(count):
        path = folder / f"{name}{index}.png"
        Image.fromarray(np.random.RandomState(index).randint(0, 255, (12, 10)).astype(np.uint8)).save(path)
        if index in broken:
            path.write_bytes(path.read_bytes()[:40])
        cases.append({"image": str(path), "case_id": path.stem})
    return cases


def _train(held_out: list[dict[str, Any]], others: list[dict[str, Any]], seconds: float = 60.0) -> list[int]:
    """Iterations that were trained."""
    seen: list[int] = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    LookAtScans(held_out, others, ScanPreprocessing(ScanFormat(image_size=16)), 2, seconds=seconds).attach(engine)
    engine.run([0, 1], max_epochs=1)
    return seen


def test_broken_scans_are_named_and_the_training_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held_out, others = _cases(tmp_path, "val", 3, broken=(1,)), _cases(tmp_path, "test", 4, broken=(0,))
    with caplog.at_level(logging.INFO, "medad_plugins"):
        assert _train(held_out, others) == [0, 1]
    told = [message for message in caplog.messages if message.startswith("left out")]
    assert [name in message for name, message in zip(("val1", "test0"), told, strict=True)] == [True, True]
    assert "looked at 7 held-out and test scans: 2 cannot be used." in caplog.messages


def test_nothing_to_calibrate_on_is_refused_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no held-out normal case can be read.*val0.png"):
        _train(_cases(tmp_path, "val", 2, broken=(0, 1)), _cases(tmp_path, "test", 1))


def test_there_is_only_so_much_time_for_what_is_read_later_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "medad_plugins"):
        _train(_cases(tmp_path, "val", 3), _cases(tmp_path, "test", 6), seconds=0)
    assert "looked at 5 held-out and test scans: all can be used; 4 are read in the end." in caplog.messages


def test_random_numbers_are_as_without_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _train(_cases(tmp_path, "val", 2), _cases(tmp_path, "test", 2))
    assert torch.equal(torch.rand(1), expected)

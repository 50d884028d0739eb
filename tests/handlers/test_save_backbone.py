"""The encoder's file is that of the weights that were kept."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.errors import InputError
from medad_plugins.handlers import SaveBackbone


def _trainer() -> Engine:
    return Engine(lambda engine, batch: None)


def test_written_after_what_chooses_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder, trainer, path = nn.BatchNorm1d(2), _trainer(), tmp_path / "new" / "encoder.pth"
    SaveBackbone(path, encoder).attach(trainer)

    def choose(engine: Engine) -> None:
        nn.init.constant_(encoder.weight, 3.0)

    trainer.add_event_handler(Events.COMPLETED, choose)
    with caplog.at_level(logging.INFO):
        trainer.run([0], max_epochs=1)
    kept = torch.load(path, weights_only=True)
    assert kept.keys() == encoder.state_dict().keys() and kept["weight"].tolist() == [3.0, 3.0]
    with caplog.at_level(logging.INFO):
        trainer.run([0], max_epochs=1)
    assert caplog.text.count("--weights") == 2, "once for each run"


def test_a_place_that_cannot_be_written_is_refused_before_the_training(tmp_path: Path) -> None:
    trainer = _trainer()
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: pytest.fail("the training has begun"))
    SaveBackbone(tmp_path, nn.Linear(1, 1)).attach(trainer)
    with pytest.raises(InputError, match="folder in place of the file"):
        trainer.run([0], max_epochs=1)

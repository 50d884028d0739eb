"""Loss terms where experiment trackers look for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.handlers import from_engine
from torch import nn

from medad_plugins.engines import FittingTrainer, ScanBatch
from medad_plugins.engines.phased import TERMS
from medad_plugins.handlers import LossTerms

# how MONAI's settings for ``--tracking mlflow`` read the loss
MONAIS = from_engine(["loss"], first=True)


class Counting(nn.Module):
    """Fitted by nothing."""

    def collect(self, image: torch.Tensor) -> None:
        """Takes no notice."""

    def fit(self) -> None:
        """Does nothing."""


def _supervised(handlers: list[Any], decollate: bool) -> SupervisedTrainer:
    network = nn.Linear(4, 4)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=2,
        train_data_loader=[{"image": torch.ones(2, 4)}, {"image": torch.zeros(2, 4)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.0),
        loss_function=nn.MSELoss(),
        prepare_batch=ScanBatch(target="image"),
        train_handlers=handlers,
        decollate=decollate,
    )


@pytest.mark.parametrize("decollate", [False, True])
def test_monais_tracking_reads_the_loss(decollate: bool) -> None:
    trainer = _supervised([LossTerms()], decollate)
    read: list[float] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: read.append(float(torch.as_tensor(MONAIS(engine.state.output)).detach())),
    )
    means: list[float] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: means.append(engine.state.metrics["train_loss"]))
    trainer.run()
    assert len(read) == 4
    assert means == pytest.approx([(read[0] + read[1]) / 2, (read[2] + read[3]) / 2], rel=1e-5)


def test_without_a_loss_none_is_looked_for() -> None:
    trainer = FittingTrainer("cpu", [{"image": torch.ones(1, 1, 2, 2)}], Counting(), train_handlers=[LossTerms()])
    read: list[object] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: read.append(MONAIS(engine.state.output)))
    trainer.run()
    assert read == [None] and "train_loss" not in trainer.state.metrics


def test_terms_that_come_at_some_iterations_are_averaged_over_those() -> None:
    outputs = iter([{"loss": torch.tensor(1.0), TERMS: {"d.real": torch.tensor(4.0)}}, {"loss": torch.tensor(3.0)}])
    engine = Engine(lambda engine, batch: next(outputs))
    LossTerms().attach(engine)
    engine.run([0, 1], max_epochs=1)
    assert engine.state.metrics == {"train_loss": 2.0, "d.real": 4.0}


def test_terms_of_a_past_stage_are_not_logged_again() -> None:
    outputs = iter([{"loss": torch.tensor(1.0), TERMS: {"d.real": torch.tensor(4.0)}}, {"loss": torch.tensor(3.0)}])
    engine = Engine(lambda engine, batch: next(outputs))
    LossTerms().attach(engine)
    engine.run([0], max_epochs=2)
    assert engine.state.metrics == {"train_loss": 3.0}

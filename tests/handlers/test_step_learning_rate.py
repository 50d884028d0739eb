"""Learning rates that fall in steps, also after resuming."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events

from medad_plugins.handlers import StepLearningRate


def _rates(epochs: int, optimizer: torch.optim.Optimizer, first_epoch: int = 0) -> list[float]:
    seen: list[float] = []
    trainer = Engine(lambda engine, batch: seen.append(optimizer.param_groups[0]["lr"]))
    StepLearningRate(optimizer, 0.5, (0.5, 0.75)).attach(trainer)

    @trainer.on(Events.STARTED)
    def resume(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = first_epoch, first_epoch * 2

    trainer.run(range(2), max_epochs=epochs, epoch_length=2)
    return seen


def _optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8)


def test_rates_fall_after_their_share_of_the_iterations() -> None:
    assert _rates(4, _optimizer()) == [0.8] * 4 + [0.4] * 2 + [0.2] * 2


def test_groups_keep_their_proportion() -> None:
    weights = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [weights[0]], "lr": 0.8}, {"params": [weights[1]], "lr": 0.08}])
    _rates(4, optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.02]


def test_a_resumed_training_has_the_rates_it_would_have_had() -> None:
    assert _rates(4, _optimizer(), first_epoch=3) == [0.2] * 2

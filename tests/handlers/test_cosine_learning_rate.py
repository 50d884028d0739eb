"""The learning rate of every iteration is PyTorch's cosine, also where a training is resumed."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medad_plugins.handlers import CosineLearningRate

STEPS = 12


def _optimizer() -> torch.optim.SGD:
    groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in (0.3, 0.01)]
    return torch.optim.SGD(groups)


@pytest.mark.parametrize("resumed_at", [0, 8])
def test_rates_are_those_of_pytorch(resumed_at: int) -> None:
    reference = _optimizer()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, STEPS)
    expected = []
    for _ in range(STEPS):
        expected.append([group["lr"] for group in reference.param_groups])
        reference.step()
        schedule.step()

    optimizer, found = _optimizer(), []
    handler = CosineLearningRate(optimizer, STEPS)
    for group in optimizer.param_groups:
        group["lr"] = 123.0 if resumed_at else group["lr"]  # as a resumed state brings another rate
    engine = Engine(lambda engine, batch: found.append([group["lr"] for group in optimizer.param_groups]))
    handler.attach(engine)
    engine.state.iteration, engine.state.epoch = resumed_at, resumed_at // 4
    engine.state.max_epochs, engine.state.epoch_length = 3, 4
    engine.run(range(4))
    assert found == [pytest.approx(rates) for rates in expected[resumed_at:]]

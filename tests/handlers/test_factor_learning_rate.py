"""Learning rates as a factor of the iteration."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.engines import NamedOptimizers
from medad_plugins.handlers import LearningRate


def test_every_group_of_every_optimiser_is_multiplied() -> None:
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizers = NamedOptimizers(
        slow=torch.optim.SGD([{"params": [one.weight], "lr": 1.0}, {"params": [one.bias], "lr": 2.0}]),
        fast=torch.optim.SGD(other.parameters(), lr=4.0),
    )
    engine, seen = Engine(lambda engine, batch: None), list[list[float]]()
    LearningRate(optimizers, lambda iteration: 0.5**iteration).attach(engine)
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda _: seen.append([group["lr"] for group in optimizers.param_groups])
    )
    engine.run([0, 1], max_epochs=1)
    assert seen == [[1.0, 2.0, 4.0], [0.5, 1.0, 2.0]]


def test_one_optimiser_of_several_alone() -> None:
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    optimizers = NamedOptimizers(
        slow=torch.optim.SGD(one.parameters(), lr=1.0), fast=torch.optim.SGD(other.parameters(), lr=4.0)
    )
    engine = Engine(lambda engine, batch: None)
    LearningRate(optimizers["fast"], lambda iteration: 0.25).attach(engine)
    engine.run([0], max_epochs=1)
    assert [group["lr"] for group in optimizers.param_groups] == [1.0, 1.0]
    with pytest.raises(ValueError, match="there is no optimiser"):
        NamedOptimizers()

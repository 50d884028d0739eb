"""Learning rates as a factor of the iteration."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.engines import NamedOptimizers
from medad_plugins.handlers import LearningRate, cosine_decay, step_decay, warm_cosine_decay


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


def _rates(
    optimizer: torch.optim.Optimizer, handler: LearningRate, iterations: int, done: int = 0
) -> list[list[float]]:
    """The rates of every iteration after so many were done, in epochs of two."""
    seen: list[list[float]] = []
    engine = Engine(lambda engine, batch: seen.append([group["lr"] for group in optimizer.param_groups]))
    handler.attach(engine)
    engine.state.iteration, engine.state.epoch = done, done // 2
    engine.state.max_epochs, engine.state.epoch_length = iterations // 2, 2
    engine.run(range(2))
    return seen


def _optimizer(*rates: float) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates])


@pytest.mark.parametrize("done", [0, 8])
def test_the_cosine_is_pytorchs_also_where_a_training_is_resumed(done: int) -> None:
    steps, reference = 12, _optimizer(0.3, 0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, steps)
    expected = []
    for _ in range(steps):
        expected.append([group["lr"] for group in reference.param_groups])
        reference.step()
        schedule.step()
    optimizer = _optimizer(0.3, 0.01)
    handler = LearningRate(optimizer, cosine_decay(steps))
    for group in optimizer.param_groups:
        group["lr"] = 123.0 if done else group["lr"]  # as a resumed state brings another rate
    assert _rates(optimizer, handler, steps, done) == [pytest.approx(rates) for rates in expected[done:]]


def test_warm_cosine_rises_in_a_line_and_falls_to_its_last() -> None:
    factor = warm_cosine_decay(110, warmup=11, last=0.1)
    assert [factor(done) for done in range(11)] == [pytest.approx(done / 10) for done in range(11)]
    falling = [factor(done) for done in range(11, 111)]
    assert falling[0] == pytest.approx(1.0) and falling[-1] == pytest.approx(0.1)
    assert falling == sorted(falling, reverse=True)
    # a third of the way down, half a cosine has fallen by a quarter
    assert factor(11 + 33) == pytest.approx(0.1 + 0.9 * 0.75)
    plain, cosine = warm_cosine_decay(20), cosine_decay(20)
    assert [plain(done) for done in range(21)] == [pytest.approx(cosine(done)) for done in range(21)]
    assert warm_cosine_decay(2, warmup=1)(0) == 0.0


def test_rates_fall_after_their_share_of_the_iterations_and_groups_keep_their_proportion() -> None:
    optimizer = _optimizer(0.8, 0.08)
    handler = LearningRate(optimizer, step_decay(0.5, (0.5, 0.75), iterations=8))
    found = _rates(optimizer, handler, 8)
    assert [rates[0] for rates in found] == [0.8] * 4 + [0.4] * 2 + [0.2] * 2
    assert found[-1] == [0.2, 0.02]
    assert _rates(optimizer, handler, 8, done=6) == [[0.2, 0.02]] * 2, "a resumed training has them too"


def test_steps_after_a_rise() -> None:
    factor = step_decay(0.5, [0.5, 0.75], iterations=8, warmup=2)
    assert [factor(done) for done in range(8)] == [0.5, 1, 1, 1, 0.5, 0.5, 0.25, 0.25]

"""The moving average of a network's weights."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from medad_plugins.handlers import MovingAverage


def _train(decay: float, iterations: int, until: int | None = None) -> tuple[float, list[float]]:
    """A weight that begins at 100 and is a random number about 1 after each iteration: its average, and its course."""
    layer = nn.Linear(1, 1, bias=False)
    network, weight = nn.ModuleDict({"generator": layer}), layer.weight
    nn.init.constant_(weight, 100.0)
    generator, course = torch.Generator().manual_seed(0), []

    @torch.no_grad()
    def step(engine: Engine, batch: int) -> None:
        if until is None or engine.state.iteration <= until:
            weight.copy_(1 + 0.1 * torch.randn(1, 1, generator=generator))
        course.append(weight.item())

    trainer = Engine(step)
    MovingAverage(network, {"generator": decay}, until).attach(trainer)
    trainer.run(range(iterations))
    return weight.item(), course


@pytest.mark.parametrize("decay", [0.9, 0.9999])
def test_nothing_of_the_start_is_left_after_a_short_training(decay: float) -> None:
    """Without a warm-up 0.9999 would leave 0.96 of the random weights after 400 iterations: 96 of these 100."""
    average, _ = _train(decay, 400)
    assert average == pytest.approx(1.0, abs=0.1)


def test_it_is_the_average_written_out() -> None:
    average, course = _train(0.5, 30)
    expected = 100.0
    for number, value in enumerate(course, 1):
        share = min(0.5, (1 + number) / (10 + number))
        expected = share * expected + (1 - share) * value
    assert average == pytest.approx(expected, rel=1e-5)


def test_what_is_trained_against_it_gets_it_for_good() -> None:
    average, course = _train(0.99, 60, until=40)
    assert course[39] != pytest.approx(course[40]), "copied back after the 40th iteration"
    assert average == course[40] == course[-1]

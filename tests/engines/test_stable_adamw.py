"""StableAdamW against AdamW where it shortens nothing, and written out where it does."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.engines import StableAdamW


def _parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=generator).double()) for size in ((3, 2), (4,))]


def _gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(10 + step)
    # they grow, so that steps are shortened
    return [torch.randn(size, generator=generator).double() * 3.0**step for size in ((3, 2), (4,))]


def _run(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for parameter, gradient in zip(parameters, _gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_where_nothing_is_shortened_it_is_adamw(amsgrad: bool) -> None:
    own, other = _parameters(), _parameters()
    values = {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.02, "amsgrad": amsgrad}
    _run(StableAdamW(own, clip_threshold=1e9, **values), own, range(5))  # type: ignore[arg-type]
    _run(torch.optim.AdamW(other, **values), other, range(5))  # type: ignore[arg-type]
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(one, two)


def test_steps_are_shortened_as_written_out() -> None:
    rate, first, second, eps, decay = 0.05, 0.9, 0.99, 1e-10, 0.1
    parameters = _parameters()
    optimizer = StableAdamW(parameters, rate, (first, second), eps, decay, amsgrad=True)
    expected = [parameter.detach().clone() for parameter in parameters]
    means, squares, largest = ([torch.zeros_like(x) for x in expected] for _ in range(3))
    shortened = 0
    for step in range(4):
        _run(optimizer, parameters, range(step, step + 1))
        for k, gradient in enumerate(_gradients(step)):
            means[k] = first * means[k] + (1 - first) * gradient
            squares[k] = second * squares[k] + (1 - second) * gradient**2
            largest[k] = torch.maximum(largest[k], squares[k])
            root = largest[k].sqrt() / math.sqrt(1 - second ** (step + 1)) + eps
            jump = float(((gradient / root) ** 2).mean().sqrt())
            shortened += jump > 1.01
            length = rate / max(1.0, jump) / (1 - first ** (step + 1))
            expected[k] = expected[k] * (1 - rate * decay) - length * means[k] / root
            torch.testing.assert_close(parameters[k].detach(), expected[k])
    assert shortened >= 4


def test_it_goes_on_from_its_state() -> None:
    through, stopped = _parameters(), _parameters()
    whole = StableAdamW(through, 0.1, amsgrad=True)
    _run(whole, through, range(6))
    first = StableAdamW(stopped, 0.1, amsgrad=True)
    _run(first, stopped, range(3))
    second = StableAdamW(stopped, 0.1, amsgrad=True)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    _run(second, stopped, range(3, 6))
    for one, two in zip(through, stopped, strict=True):
        assert torch.equal(one, two)


def test_what_has_no_gradient_stays_and_a_closure_is_asked() -> None:
    one, other = _parameters()
    before = other.detach().clone()
    optimizer = StableAdamW([one, other], 0.1)

    def closure() -> float:
        loss = one.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == pytest.approx(float(_parameters()[0].detach().square().sum()))
    assert torch.equal(other, before) and not torch.equal(one, _parameters()[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [({"lr": -1.0}, "must not be negative"), ({"clip_threshold": 0.0}, "positive"), ({"betas": (0.9, 1.0)}, "betas")],
)
def test_wrong_arguments(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StableAdamW(_parameters(), **values)  # type: ignore[arg-type]

"""The Sinkhorn divergence against exact transport, a plain matrix scaling, and what it must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from medad_plugins.losses import sinkhorn_divergence


def _clouds(points: int = 7, others: int = 7, dims: int = 3, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(batch, points, dims, generator=generator)
    return x, torch.rand(batch, others, dims, generator=generator) * 0.5 + 0.4


def _costs(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[((a - b) ** 2).sum() / 2 for b in y] for a in x])


def _scaled(x: NDArray[np.float64], y: NDArray[np.float64], epsilon: float) -> float:
    """Entropic transport by scaling rows and columns of the kernel in turns; cost of the plan plus its divergence."""
    costs = _costs(x, y)
    kernel = np.exp(-costs / epsilon)
    u, v = np.ones(len(x)), np.ones(len(y))
    for _ in range(5000):
        u = (1 / len(x)) / (kernel @ v)
        v = (1 / len(y)) / (kernel.T @ u)
    plan = u[:, None] * kernel * v[None]
    return float((plan * costs).sum() + epsilon * (plan * np.log(plan * len(x) * len(y))).sum())


@pytest.mark.parametrize("others", [7, 5])
@pytest.mark.parametrize("blur", [0.2, 0.5])
def test_it_is_the_entropic_cost_less_that_of_each_cloud_with_itself(others: int, blur: float) -> None:
    x, y = _clouds(others=others)
    found = sinkhorn_divergence(x, y, blur, steps=200)
    for i in range(len(x)):
        a, b = x[i].double().numpy(), y[i].double().numpy()
        own = _scaled(a, a, blur**2) + _scaled(b, b, blur**2)
        assert found[i].item() == pytest.approx(_scaled(a, b, blur**2) - own / 2, rel=1e-3, abs=1e-5)


def test_with_little_blur_it_is_the_exact_transport() -> None:
    x, y = _clouds()
    found = sinkhorn_divergence(x, y, blur=0.02, steps=2000)
    for i in range(len(x)):
        costs = _costs(x[i].double().numpy(), y[i].double().numpy())
        assert found[i].item() == pytest.approx(costs[linear_sum_assignment(costs)].mean(), rel=0.01)


def test_with_much_blur_it_is_half_the_squared_distance_of_the_means() -> None:
    x, y = _clouds(others=9)
    expected = (x.mean(1) - y.mean(1)).square().sum(-1) / 2
    torch.testing.assert_close(sinkhorn_divergence(x, y, blur=20.0), expected, rtol=0.02, atol=1e-4)


def test_its_gradient_is_that_of_finite_differences() -> None:
    x, y = _clouds(5, 6, 2, batch=1)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(sinkhorn_divergence(x, y, 0.3, steps=100).sum(), x)
    step = 1e-2
    for point in range(5):
        for axis in range(2):
            moved = []
            for sign in (1, -1):
                other = x.detach().clone()
                other[0, point, axis] += sign * step
                moved.append(sinkhorn_divergence(other, y, 0.3, steps=100).item())
            assert gradient[0, point, axis].item() == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=2e-3)
    assert float(gradient.abs().max()) > 0.02


def test_it_is_symmetric_not_negative_and_zero_for_the_same_cloud_in_another_order() -> None:
    x, y = _clouds()
    torch.testing.assert_close(sinkhorn_divergence(x, y), sinkhorn_divergence(y, x), rtol=2e-2, atol=1e-5)
    assert bool((sinkhorn_divergence(x, y) > 0.01).all())
    shuffled = x[:, torch.randperm(x.shape[1])]
    torch.testing.assert_close(sinkhorn_divergence(x, shuffled), torch.zeros(2), rtol=0, atol=1e-5)

"""Simplex noise against its definition, and what makes it noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from medad_plugins.synthesis import fractal_noise, simplex_noise


def _by_definition(points: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Faded ramps of all lattice corners about a point, however far, without finding its simplex."""
    dims = points.shape[1]
    state = np.random.RandomState(seed)
    order, gradients = state.permutation(256), state.normal(size=(256, dims))
    values = np.zeros(len(points))
    skew, unskew = (np.sqrt(dims + 1) - 1) / dims, (1 - 1 / np.sqrt(dims + 1)) / dims
    for p, point in enumerate(points):
        near = np.floor(point + skew * point.sum()).astype(int)
        for step in itertools.product((-1, 0, 1, 2), repeat=dims):
            corner = near + np.array(step)
            offset = point - (corner - unskew * corner.sum())
            index = 0
            for coordinate in corner:
                index = order[(index + coordinate) % 256]
            ramp = offset @ gradients[index] / np.sqrt(gradients[index] @ gradients[index])
            values[p] += max(0.5 - offset @ offset, 0) ** 4 * ramp
    return values


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_noise_is_the_sum_of_the_faded_ramps_of_all_corners(dims: int) -> None:
    points = np.random.RandomState(1).uniform(-5, 300, (60, dims))
    noise = simplex_noise(np.random.RandomState(7), points)
    expected = _by_definition(points, 7)
    factor = (noise @ expected) / (expected @ expected)
    np.testing.assert_allclose(noise, factor * expected, atol=1e-9)
    assert {2: 50, 3: 80, 4: 120}[dims] < factor < {2: 70, 3: 100, 4: 150}[dims]


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_noise_has_the_size_that_it_says(dims: int) -> None:
    points = np.random.RandomState(0).uniform(0, 200, (20000, dims))
    noise = np.concatenate([simplex_noise(np.random.RandomState(seed), points) for seed in range(5)])
    assert noise.mean() == pytest.approx(0, abs=0.01)
    assert noise.std() == pytest.approx(0.32, rel=0.05)
    assert np.abs(noise).max() < 1.4
    assert (np.abs(noise) > 1).mean() <= 0.01


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_noise_is_continuous_and_changes_within_a_unit(dims: int) -> None:
    start, direction = np.random.RandomState(0).uniform(0, 20, dims), np.ones(dims) / np.sqrt(dims)
    line = start + np.arange(20000)[:, None] * 1e-3 * direction
    noise = simplex_noise(np.random.RandomState(0), line)
    assert np.abs(np.diff(noise)).max() < 0.02
    signs = (np.diff(np.sign(noise)) != 0).sum()
    assert 8 < signs < 60, "over 20 units"


def test_noise_is_drawn_from_the_state_that_is_passed() -> None:
    shape = (1, 9, 8)
    first, again = (fractal_noise(np.random.RandomState(3), shape) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    state = np.random.RandomState(3)
    one, two = fractal_noise(state, shape), fractal_noise(state, shape)
    assert one.shape == shape and one.dtype == np.float32
    assert float(np.abs(one - two).mean()) > 0.05
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    fractal_noise(np.random.RandomState(0), shape)
    assert np.random.rand() == expected, "the global state is not used"


@pytest.mark.parametrize("shape", [(1, 40, 30), (3, 16, 20), (1, 12, 9, 10)])
def test_octaves_are_summed_each_finer_and_weaker(shape: tuple[int, ...]) -> None:
    noise = fractal_noise(np.random.RandomState(5), shape, octaves=3, persistence=0.5, period=8.0)
    state = np.random.RandomState(5)
    shifts = state.uniform(0, 256, (3, 1, len(shape)))
    grid = np.array(list(np.ndindex(*shape)), dtype=float)
    layers = simplex_noise(state, np.concatenate([grid * 2**k / 8 + shifts[k] for k in range(3)])).reshape(3, *shape)
    np.testing.assert_allclose(noise, layers[0] + layers[1] / 2 + layers[2] / 4, atol=1e-6)


def test_channels_are_alike_and_a_period_says_how_fast_the_noise_changes() -> None:
    coarse, fine = (fractal_noise(np.random.RandomState(0), (3, 64, 64), 1, period=p) for p in (32.0, 4.0))
    assert np.abs(np.diff(coarse, axis=1)).mean() < 0.25 * np.abs(np.diff(fine, axis=1)).mean()
    assert 0 < np.abs(coarse[0] - coarse[2]).mean() < 0.2
    values = np.concatenate([fractal_noise(np.random.RandomState(s), (1, 32, 32)).ravel() for s in range(100)])
    assert values.std() == pytest.approx(0.4, abs=0.05)


def test_wrong_number_of_coordinates() -> None:
    with pytest.raises(ValueError, match="2 to 4 coordinates, got 5"):
        simplex_noise(np.random.RandomState(0), np.zeros((2, 5)))

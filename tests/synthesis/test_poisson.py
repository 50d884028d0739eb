"""Poisson blending against a plain sparse solution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from medad_plugins.synthesis.poisson import blend_gradients, solve_poisson

SHAPES: list[tuple[int, ...]] = [(9, 12), (7, 5, 8), (3, 3), (4, 20)]


def _second_differences(values: NDArray[np.float64]) -> NDArray[np.float64]:
    padded = np.pad(values, 1)
    centre = (slice(1, -1),) * values.ndim
    total = -2.0 * values.ndim * values
    for axis in range(values.ndim):
        for step in (-1, 1):
            total = total + np.roll(padded, step, axis)[centre]
    return total


@pytest.mark.parametrize("shape", SHAPES)
def test_the_solution_has_the_given_laplacian(shape: tuple[int, ...]) -> None:
    wanted = np.random.RandomState(0).randn(*shape)
    np.testing.assert_allclose(_second_differences(solve_poisson(wanted)), wanted, atol=1e-10)


def _by_sparse_solution(
    target: NDArray[np.float32],
    content: NDArray[np.float32],
    inside: NDArray[np.bool_],
    share: float | None,
    mixed: bool,
) -> NDArray[np.float64]:
    """One equation a voxel: the sum over its neighbours of (own - neighbour) is the sum of the wanted differences."""
    interior = [
        p for p in np.ndindex(*target.shape) if all(0 < i < n - 1 for i, n in zip(p, target.shape, strict=True))
    ]
    number = {place: i for i, place in enumerate(interior)}
    matrix, right = sparse.lil_matrix((len(interior), len(interior))), np.zeros(len(interior))
    weights = (1.0, 1.0) if share is None else (share, 1 - share)
    for place, (axis, step) in itertools.product(interior, itertools.product(range(target.ndim), (-1, 1))):
        beside = tuple(i + step * (a == axis) for a, i in enumerate(place))
        own = float(target[place]) - float(target[beside])
        if (inside[place]) or (beside in number and inside[beside]):
            foreign = weights[0] * (float(content[place]) - float(content[beside]))
            wanted = foreign if not mixed or abs(foreign) > abs(weights[1] * own) else weights[1] * own
        else:
            wanted = own
        row = number[place]
        matrix[row, row] += 1
        right[row] += wanted
        if beside in number:
            matrix[row, number[beside]] -= 1
        else:
            right[row] += float(target[beside])
    solved = target.astype(np.float64)
    for place, value in zip(interior, spsolve(matrix.tocsr(), right), strict=True):
        solved[place] = value
    return solved


@pytest.mark.parametrize("shape", [(9, 12), (6, 5, 7)])
@pytest.mark.parametrize(("share", "mixed"), [(None, False), (None, True), (0.3, True), (0.0, True), (1.0, True)])
@pytest.mark.parametrize("whole", [True, False])
def test_blend_is_the_sparse_solution(shape: tuple[int, ...], share: float | None, mixed: bool, whole: bool) -> None:
    rng = np.random.RandomState(1)
    target, content = rng.rand(*shape).astype(np.float32), rng.rand(*shape).astype(np.float32)
    inside = np.ones(shape, dtype=bool) if whole else rng.rand(*shape) > 0.6
    blended = blend_gradients(target, content, inside, share, mixed)
    expected = _by_sparse_solution(target, content, inside & _interior(shape), share, mixed)
    np.testing.assert_allclose(blended, expected, atol=2e-6)
    frame = ~_interior(shape)
    assert np.array_equal(blended[frame], target[frame]), "the frame is never changed"
    if not np.array_equal(target, expected.astype(np.float32)):
        assert not np.array_equal(blended, target)


def _interior(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    interior = np.zeros(shape, dtype=bool)
    interior[(slice(1, -1),) * len(shape)] = True
    return interior


@pytest.mark.parametrize("shape", [(9, 12), (6, 5, 7)])
def test_content_of_another_level_leaves_no_trace(shape: tuple[int, ...]) -> None:
    target = np.random.RandomState(1).rand(*shape).astype(np.float32)
    brighter = blend_gradients(target, target + 5, np.ones(shape, dtype=bool), mixed=False)
    np.testing.assert_allclose(brighter, target, atol=1e-5)

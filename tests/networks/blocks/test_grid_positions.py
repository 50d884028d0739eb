"""Positions, queries and neighbours of a grid, each against its definition."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from medad_plugins.networks.blocks.grid_positions import GridPositions, GridQueries, neighbours_hidden

CPU = torch.device("cpu")


@pytest.mark.parametrize("grid", [[3, 5], [2, 3, 4]])
def test_learned_positions_are_a_row_of_each_axis(grid: list[int]) -> None:
    torch.manual_seed(0)
    positions = GridPositions(grid, 11)
    tables = [parameter.detach() for parameter in positions.parameters()]
    assert sum(table.shape[1] for table in tables) == 11 and [len(table) for table in tables] == grid
    assert all(0 <= float(table.min()) and float(table.max()) <= 1 for table in tables)
    found = positions(grid)
    for row, place in zip(found, itertools.product(*map(range, grid)), strict=True):
        torch.testing.assert_close(row.detach(), torch.cat([table[i] for table, i in zip(tables, place)]))


def test_sine_positions_are_those_of_the_formula() -> None:
    found = GridPositions([4, 5], 12, "sine")([4, 5])
    for number, place in enumerate(itertools.product(range(4), range(5))):
        expected = []
        for edge, index in zip((4, 5), place):
            for k in range(6):
                phase = 2 * math.pi * (index + 1) / edge / 10000 ** (2 * (k // 2) / 6)
                expected.append(math.cos(phase) if k % 2 else math.sin(phase))
        assert found[number].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("grid", [[4, 4], [4, 4, 4]])
def test_other_grids_are_interpolated(grid: list[int]) -> None:
    positions, queries = GridPositions(grid, 12), GridQueries(grid, 6)
    smaller = [2] * len(grid)
    assert positions(smaller).shape == (2 ** len(grid), 12)
    assert queries(smaller).shape == (2 ** len(grid), 6)
    # half the size: every place has the mean of those that it covers
    first = queries.queries.reshape([*grid, 6])[(slice(0, 2),) * len(grid)].flatten(0, -2).mean(0)
    torch.testing.assert_close(queries(smaller)[0], first)
    assert queries(grid) is queries.queries


@pytest.mark.parametrize(("grid", "window"), [([5, 6], 3), ([8, 3], 5), ([4, 5, 3], 3), ([14, 14], 7)])
def test_hidden_are_the_places_of_the_window(grid: list[int], window: int) -> None:
    found = neighbours_hidden(grid, window, CPU)
    places = list(itertools.product(*map(range, grid)))
    expected = [[all(abs(a - b) <= window // 2 for a, b in zip(one, other)) for other in places] for one in places]
    assert found.tolist() == expected


@pytest.mark.parametrize("grid", [[1, 1], [2, 2], [3, 3], [4, 7], [3, 3, 3], [1, 2, 1]])
def test_no_place_is_left_without_another(grid: list[int]) -> None:
    hidden = neighbours_hidden(grid, 9, CPU)
    assert not bool(hidden.all(1).any())
    # whatever can be hidden is: of a grid of more than one place, its own
    assert bool(hidden.diagonal().all()) == (max(grid) > 1)


def test_nothing_is_hidden_without_a_window() -> None:
    assert not bool(neighbours_hidden([4, 4], 0, CPU).any())


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="positions must be one of"):
        GridPositions([3, 3], 8, "fourier")

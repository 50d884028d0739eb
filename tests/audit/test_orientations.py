"""The orientations of pictures and volumes."""

from __future__ import annotations

import numpy as np
import pytest

from medad_plugins.audit.orientations import orientations


@pytest.mark.parametrize("dims", [2, 3])
def test_there_are_eight_different_ones_and_the_first_changes_nothing(dims: int) -> None:
    grids = np.arange(2 * 4**dims).reshape(2, *[4] * dims)
    turned = [way(grids) for way in orientations(dims)]
    assert np.array_equal(turned[0], grids)
    assert len({grid.tobytes() for grid in turned}) == 8
    assert len({way.name for way in orientations(dims)}) == 8
    assert all(np.array_equal(np.sort(grid[1].ravel()), grids[1].ravel()) for grid in turned)


def test_names_say_what_is_done_to_a_picture_of_columns_and_rows() -> None:
    picture = np.arange(6).reshape(2, 3)  # rows, columns
    square = np.pad(picture, ((0, 1), (0, 0)))
    by_name = {way.name: way(square.T[None])[0].T for way in orientations(2)}
    assert np.array_equal(by_name["mirrored left-right"], square[:, ::-1])
    assert np.array_equal(by_name["mirrored top-bottom"], square[::-1])
    assert np.array_equal(by_name["turned by 180 degrees"], np.rot90(square, 2))
    assert np.array_equal(by_name["turned by 90 degrees clockwise"], np.rot90(square, -1))
    assert np.array_equal(by_name["turned by 90 degrees counterclockwise"], np.rot90(square))


@pytest.mark.parametrize("dims", [2, 3])
def test_each_is_undone_by_one_other_or_itself(dims: int) -> None:
    grids = np.random.RandomState(0).rand(1, *[4] * dims)
    for way in orientations(dims):
        (back,) = [other for other in orientations(dims) if way.is_undone_by(other)]
        assert np.array_equal(back(way(grids)), grids)

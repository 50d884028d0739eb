"""Tiles cover every scan, and their maps become the map that the whole scan would have."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from medad_plugins.tile_grid import TileGrid


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("edge", [10, 48, 64, 91])
def test_tiles_cover_every_length_and_overlap_as_asked(edge: int, overlap: float) -> None:
    grid = TileGrid([edge], overlap)
    for length in (5, edge - 1, edge, edge + 1, 2 * edge + 3, 400):
        starts = grid.starts([length])[0]
        assert starts[0] <= 0 and starts[-1] + edge >= length
        assert all(0 < after - before <= edge * (1 - overlap) + 1e-6 for before, after in itertools.pairwise(starts))
        image = torch.rand(2, 3, length)
        blended = grid.blend(image, lambda tiles, numbers: tiles, at_once=3)
        torch.testing.assert_close(blended, image, rtol=1e-5, atol=1e-6)


def test_the_map_of_a_convolutional_network_is_that_of_the_whole_scan() -> None:
    torch.manual_seed(0)
    plain = [nn.Conv3d(1, 1, 3, padding=1) for _ in range(4)]
    strided = [nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.ConvTranspose3d(4, 1, 2, 2)]
    network = nn.Sequential(*plain, *strided).eval()  # sees 6 voxels to either side
    image = torch.rand(1, 1, 48, 64, 32)
    with torch.no_grad():
        whole = network(image)
        for overlap, near in ((0.5, True), (0.0, False)):
            blended = TileGrid([32, 32, 32], overlap).blend(image, lambda tiles, numbers: network(tiles))
            assert (float((blended - whole).abs().max()) < 1e-5) == near


def test_numbers_say_where_a_tile_lies_and_a_batch_stays_together() -> None:
    grid = TileGrid([8, 8], 0.0)
    image = torch.arange(2 * 16 * 8, dtype=torch.float32).reshape(2, 1, 16, 8)
    seen: list[list[int]] = []

    def look(tiles: torch.Tensor, numbers: list[int]) -> torch.Tensor:
        seen.append(numbers)
        for tile, number, scan in zip(tiles, numbers, [0, 1, 0, 1], strict=False):
            assert torch.equal(tile, image[scan, :, 8 * number : 8 * number + 8])
        return tiles

    grid.blend(image, look, at_once=4)
    assert seen == [[0, 0, 1, 1]]
    seen.clear()
    grid.blend(image, look, at_once=2)
    assert seen == [[0, 0], [1, 1]]


def test_a_function_that_gives_nothing_sees_every_tile() -> None:
    seen: list[int] = []
    result = TileGrid([8, 8]).blend(torch.rand(1, 1, 20, 9), lambda tiles, numbers: seen.extend(numbers), at_once=2)
    assert seen == list(range(TileGrid([8, 8]).count([20, 9])))
    assert result.shape == (1, 1, 20, 9)


def test_small_scans_are_padded_on_both_sides() -> None:
    tile = TileGrid([8]).cut(torch.ones(1, 1, 5), [-1])
    assert tile[0, 0].tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


def test_refuses_what_is_no_grid() -> None:
    with pytest.raises(ValueError, match="overlap"):
        TileGrid([8], 1.0)

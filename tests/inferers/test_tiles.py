"""Networks that look at tiles, on whole scans."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from medad_plugins.data import ScanFormat
from medad_plugins.inferers import SlicewiseInferer, TileInferer, scan_inferer, tiles
from medad_plugins.tile_grid import TileGrid


class Seen(nn.Module):
    """Notes the shapes that it is shown."""

    cuts_tiles = False

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        return image

    def collect(self, image: Tensor) -> None:
        self.shapes.append(tuple(image.shape))


def test_what_is_one_tile_passes_as_it_is() -> None:
    network = Seen()
    infer = scan_inferer(ScanFormat(image_size=64, roi_size=16))
    assert isinstance(infer, SlidingWindowInferer), "hosts know it"
    infer(torch.rand(5, 3, 16, 16), network)
    assert network.shapes == [(5, 3, 16, 16)]


@pytest.mark.parametrize("size", [[12, 12], [16, 12], [16, 16]])
def test_a_scan_no_larger_than_a_tile_has_the_map_of_the_padded_scan(size: list[int]) -> None:
    network = nn.Conv2d(1, 1, 3, padding=1)
    image = torch.rand(2, 1, *size)
    with torch.no_grad():
        found = TileInferer(TileGrid([16, 16]))(image, network)
        before = [(16 - edge) // 2 for edge in size]
        pads = [before[1], 16 - size[1] - before[1], before[0], 16 - size[0] - before[0]]
        whole = network(nn.functional.pad(image, pads))
    expected = whole[:, :, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]
    torch.testing.assert_close(found, expected)


def test_a_fit_sees_tiles_at_most_so_many_at_once() -> None:
    network = Seen()
    TileInferer(TileGrid([16, 16], 0.0), tiles_at_once=3)(torch.rand(2, 1, 32, 32), network.collect)
    assert network.shapes == [(2, 1, 16, 16)] * 4
    network.shapes.clear()
    TileInferer(TileGrid([16, 16], 0.0), tiles_at_once=3)(torch.rand(1, 1, 32, 32), network.collect)
    assert network.shapes == [(3, 1, 16, 16), (1, 1, 16, 16)]


def test_slices_of_volumes_are_looked_at_in_tiles() -> None:
    network = Seen()
    infer = scan_inferer(ScanFormat(3, [32, 24, 6], slice_axis=2, roi_size=16))
    assert isinstance(infer, SlicewiseInferer)
    volume = torch.rand(1, 1, 32, 24, 6)
    torch.testing.assert_close(infer(volume, network), volume)
    assert {shape[1:] for shape in network.shapes} == {(1, 16, 16)}


def test_a_network_that_cuts_tiles_itself_sees_the_whole_scan() -> None:
    network = Seen()
    network.cuts_tiles = True
    TileInferer(TileGrid([8, 8]))(torch.rand(1, 1, 20, 20), network)
    TileInferer(TileGrid([8, 8]))(torch.rand(1, 1, 20, 20), network.collect)
    assert network.shapes == [(1, 1, 20, 20)] * 2


def test_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tiles, "_SAID_AFTER", 0.0)
    with caplog.at_level(logging.INFO):
        TileInferer(TileGrid([8, 8], 0.0), tiles_at_once=2)(torch.rand(1, 1, 16, 24), Seen())
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["tile 2 of 6", "tile 4 of 6"]

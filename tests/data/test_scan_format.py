"""How scans come to the network, as one value."""

from __future__ import annotations

from typing import Any

import pytest

from medad_plugins.data import ScanFormat
from medad_plugins.errors import InputError


def test_one_number_stands_for_every_edge() -> None:
    assert ScanFormat(2, 64).edges == [64, 64]
    assert ScanFormat(3, (16, 32, 48)).edges == [16, 32, 48]


def test_a_network_sees_scans_or_their_slices() -> None:
    assert [ScanFormat(2).network_dims, ScanFormat(3).network_dims, ScanFormat(3, slice_axis=0).network_dims] == [
        2,
        3,
        2,
    ]
    assert ScanFormat(3, 64, slice_axis=2).network_edges == [64, 64]
    assert ScanFormat(3, [16, 32, 48], slice_axis=1).network_edges == [16, 48]
    assert ScanFormat(2, (16, 32)).network_edges == [16, 32]


def test_a_new_training_is_upright_with_the_sides_of_the_old_one() -> None:
    columns_first = ScanFormat(2, (64, 32), orientation="stored")
    assert columns_first.upright() == ScanFormat(2, [32, 64]) == ScanFormat(2, [32, 64]).upright()
    assert ScanFormat(2, 64, crop=0.5, orientation="stored").upright() == ScanFormat(2, 64, crop=0.5)
    for axis, edges in enumerate(([16, 48, 32], [48, 32, 16], [32, 16, 48])):
        stored = ScanFormat(3, (16, 32, 48), slice_axis=axis, orientation="stored")
        assert stored.upright() == ScanFormat(3, edges, slice_axis=axis)
    assert ScanFormat(3, (16, 32, 48), orientation="stored").upright() == ScanFormat(3, (16, 32, 48))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_axis": 0}, "slice_axis .expected 0, 1, 2 or all, with --spatial_dims 3"),
        ({"spatial_dims": 3, "slice_axis": "all", "paired": "both"}, "paired .expected true, false or references"),
        ({"spatial_dims": 3, "paired": True}, "sides are compared where volumes are cut along all axes: paired"),
        ({"spatial_dims": 3, "slice_axis": 3}, "slice_axis .expected 0, 1, 2 or all, with --spatial_dims 3"),
        ({"spatial_dims": 3, "slice_axis": -1}, "slice_axis .expected 0, 1, 2 or all, with --spatial_dims 3"),
        ({"image_size": (16, 16, 16)}, "image_size.*expected one positive number or 2 of them"),
        ({"image_size": 0}, "image_size"),
        ({"orientation": "up"}, "orientation .expected upright or stored.* found up"),
        ({"spatial_dims": 4}, "spatial_dims.*found 4"),
    ],
)
def test_what_scans_do_not_have_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ScanFormat(**options)


def test_slices_along_all_axes_are_square_and_take_no_tiles() -> None:
    scan = ScanFormat(3, (32, 48, 40), slice_axis="all")
    assert scan.network_dims == 2 and scan.network_edges == [48, 48] and scan.whole_edges == [32, 48, 40]
    for tiles in ({"roi_size": 16}, {"spacing": 2.0}):
        with pytest.raises(InputError, match="slices along all axes are seen whole, not in tiles: slice_axis"):
            ScanFormat(3, 32, slice_axis="all", **tiles)

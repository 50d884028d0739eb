"""Patches of scans: which is which, and back."""

from __future__ import annotations

import itertools

import pytest
import torch

from medad_plugins.networks.blocks.patch_grid import join_patches, neighbouring_positions, position_codes, split_patches


@pytest.mark.parametrize("shape", [(2, 3, 4, 6), (2, 1, 4, 2, 6)])
def test_patches_lie_in_reading_order(shape: tuple[int, ...]) -> None:
    x = torch.arange(float(torch.tensor(shape).prod())).reshape(shape)
    patches = split_patches(x, 2)
    size = [edge // 2 for edge in shape[2:]]
    expected = []
    for case in x:
        for place in itertools.product((0, 1), repeat=len(size)):
            cut = tuple(slice(p * edge, (p + 1) * edge) for p, edge in zip(place, size, strict=True))
            expected.append(case[(slice(None), *cut)])
    assert torch.equal(patches, torch.stack(expected))
    assert torch.equal(join_patches(patches, 2), x)


def test_neighbours_beyond_the_scan_are_nobody() -> None:
    # of four patches 0 1 / 2 3, around 0: nobody above and to the left, 1 to the right, 2 and 3 below
    assert neighbouring_positions(2, 2)[0] == [4, 4, 4, 4, 1, 4, 2, 3]
    assert neighbouring_positions(2, 2)[3] == [0, 1, 4, 2, 4, 4, 4, 4]
    volumes = neighbouring_positions(3, 2)
    assert [len(row) for row in volumes] == [26] * 8
    assert [sorted(set(row) - {8}) for row in volumes] == [[n for n in range(8) if n != own] for own in range(8)]
    middle = neighbouring_positions(2, 3)[4]
    assert middle == [0, 1, 2, 3, 5, 6, 7, 8]


def test_positions_are_counted_in_binary() -> None:
    assert position_codes(4) == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert len(position_codes(8)[0]) == 4

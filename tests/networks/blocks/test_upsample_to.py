"""Upsampling to a given grid."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.blocks.upsample_to import UpsampleTo


@pytest.mark.parametrize("size", [[8, 3], [5, 4, 7]])
def test_linear_to_the_grid_that_is_requested(size: list[int]) -> None:
    upsample, start = UpsampleTo(len(size)), torch.rand(2, 3, *[2] * len(size))
    found = upsample(start, size)
    assert found.shape == (2, 3, *size)
    rounding = 1e-6
    assert float(found.min()) >= float(start.min()) - rounding
    assert float(found.max()) <= float(start.max()) + rounding
    torch.testing.assert_close(torch.jit.script(upsample)(start, size), found)
    assert upsample(found, size) is found, "nothing is done where the grid is that already"

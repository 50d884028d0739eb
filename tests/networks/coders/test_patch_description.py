"""The patch network: its grid, and how far a place sees."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.networks.coders.patch_description import PatchDescription


@pytest.mark.parametrize(("size", "stride"), [((64, 50), 4), ((33, 40), 2), ((20, 24, 17), 8)])
def test_grid_is_that_of_a_backbone_of_the_same_stride(size: tuple[int, ...], stride: int) -> None:
    network = PatchDescription(len(size), 1, 6, stride, widths=(4, 4))
    assert network(torch.rand(1, 1, *size)).shape == (1, 6, *(-(-edge // stride) for edge in size))


def test_a_place_sees_32_pixels() -> None:
    torch.manual_seed(0)
    network = PatchDescription(2, 1, 3, widths=(4, 8)).double()
    image = torch.rand(1, 1, 96, 96, dtype=torch.float64, requires_grad=True)
    network(image)[0, :, 12, 12].sum().backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1))
    assert int(rows.max() - rows.min()) + 1 == 32


def test_other_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        PatchDescription(2, 1, 3, stride=14)

"""A 2D network on volumes: each slice is seen alone, and the map is put together again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.inferers import PrecisionInferer, SlicewiseInferer, network_dims, network_size, scan_inferer

VOLUMES = torch.rand(2, 1, 5, 6, 7, generator=torch.Generator().manual_seed(0))


class _Map(nn.Module):
    """A map that depends on the whole slice: each pixel less the mean of its slice."""

    def forward(self, image: Tensor) -> Tensor:
        assert image.dim() == 4 and type(image) is Tensor
        return image - image.mean((2, 3), keepdim=True)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_every_slice_passes_alone_and_returns_to_its_place(axis: int, at_once: int) -> None:
    found = SlicewiseInferer(axis, slices_at_once=at_once)(VOLUMES, _Map())
    assert found.shape == VOLUMES.shape and found.dtype == torch.float32
    others = [d for d in (2, 3, 4) if d != axis + 2]
    torch.testing.assert_close(found, VOLUMES - VOLUMES.mean(others, keepdim=True), rtol=1e-5, atol=1e-6)


def test_slices_pass_in_the_precision_asked_for() -> None:
    seen: list[bool] = []

    class Spy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return image

    SlicewiseInferer(2, "bfloat16")(VOLUMES, Spy())
    assert seen and all(seen)


def test_slices_cut_before_pass_as_they_are() -> None:
    slices = VOLUMES[:, :, 0]
    torch.testing.assert_close(SlicewiseInferer(2)(slices, _Map()), _Map()(slices))


def test_which_inferer_and_how_many_axes_the_network_has() -> None:
    assert isinstance(scan_inferer("bfloat16"), PrecisionInferer)
    assert isinstance(scan_inferer("float32", 1), SlicewiseInferer)
    assert [network_dims(2, None), network_dims(3, None), network_dims(3, 0)] == [2, 3, 2]


@pytest.mark.parametrize(("dims", "axis"), [(2, 0), (3, 3), (3, -1)])
def test_scans_that_have_no_such_slices_are_refused(dims: int, axis: int) -> None:
    with pytest.raises(InputError, match="slice_axis .expected 0, 1 or 2, with --spatial_dims 3"):
        network_dims(dims, axis)


def test_a_network_sees_the_edges_of_a_slice() -> None:
    assert network_size(64, 2) == 64
    assert network_size([16, 32, 48], 1) == [16, 48]
    assert network_size((16, 32), None) == [16, 32]

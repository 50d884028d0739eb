"""A 2D network on volumes: each slice is seen alone, and the map is put together again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.data import ScanFormat
from medad_plugins.inferers import PrecisionInferer, SlicewiseInferer, ThreeAxesInferer, scan_inferer

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


def test_slices_pass_in_the_precision_requested() -> None:
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


def test_the_format_of_the_scans_says_which_inferer() -> None:
    assert isinstance(scan_inferer(ScanFormat(3), "bfloat16"), PrecisionInferer)
    assert isinstance(scan_inferer(ScanFormat(3, slice_axis=1)), SlicewiseInferer)


def test_along_all_axes_the_map_is_the_mean_of_the_three() -> None:
    volume = torch.rand(2, 1, 4, 6, 5)

    def rows(slices: torch.Tensor) -> torch.Tensor:
        """Of each slice the cumulative sum down its rows, which depends on how it stands."""
        return slices.cumsum(2)

    found = ThreeAxesInferer(slices_at_once=4)(volume, rows)
    down = [volume.flip(4).cumsum(4).flip(4), volume.flip(4).cumsum(4).flip(4), volume.flip(3).cumsum(3).flip(3)]
    torch.testing.assert_close(found, torch.stack(down).mean(0))


def test_along_all_axes_slices_are_square_as_in_training() -> None:
    seen: list[torch.Size] = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        seen.append(slices.shape[1:])
        return slices

    ThreeAxesInferer()(torch.rand(1, 1, 4, 6, 5), network)
    assert set(seen) == {(1, 6, 6)}
    assert scan_inferer(ScanFormat(3, (4, 6, 5), slice_axis="all"))(torch.rand(3, 1, 6, 6), network).shape == (
        3,
        1,
        6,
        6,
    )

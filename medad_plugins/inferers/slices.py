"""Two-dimensional networks on volumes: every slice along one axis or all three, and back to a volume."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer, SliceInferer
from torch import Tensor

from medad_plugins.data.scan_format import ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.inferers.precision import PrecisionInferer
from medad_plugins.inferers.tiles import TileInferer
from medad_plugins.opposite_side import OppositeSide
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.tile_grid import TileGrid
from medad_plugins.volume_slices import ALL_AXES, REFERENCES, padded, upright_slices, volumes_of_slices

__all__ = ["SlicewiseInferer", "ThreeAxesInferer", "scan_inferer"]


class SlicewiseInferer(SliceInferer):
    """Passes every slice of a volume through a 2D network in a chosen precision.

    Args:
        slice_axis: axis of the volume along which it is cut, 0, 1 or 2.
        precision: see `PrecisionInferer`.
        slices_at_once: slices that pass the network together.
        tiles: of a slice that the network looks at; None shows it whole slices.

    Shape:
        volumes ``(B, C, *spatial)`` to ``(B, 1, *spatial)``; slices, as in training, to whatever the network gives.

    Example:
        >>> infer = SlicewiseInferer(slice_axis=2)
        >>> infer(torch.rand(1, 1, 16, 16, 5), torch.nn.Conv2d(1, 1, 1)).shape
        torch.Size([1, 1, 16, 16, 5])
    """

    def __init__(
        self, slice_axis: int, precision: str = "float32", slices_at_once: int = 32, tiles: TileGrid | None = None
    ) -> None:
        # -1: whole slices, so nothing overlaps and nothing is blended
        super().__init__(slice_axis, roi_size=(-1, -1), sw_batch_size=slices_at_once)
        self.per_slice = PrecisionInferer(precision) if tiles is None else TileInferer(tiles, precision)

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        image = plain_tensor(inputs)
        if image.dim() == 4:
            return self.per_slice(image, network, *args, **kwargs)
        return super().__call__(image, lambda slices: self.per_slice(slices, network), *args, **kwargs)


class ThreeAxesInferer(Inferer):
    """Passes the slices of a volume along all three axes through one 2D network, and averages the three volumes.

    Slices are upright, and square by zeros where the sides of the volume differ, as in training. A network that cuts
    volumes itself (`AlongAxes`) is given them whole.

    Args:
        precision: see `PrecisionInferer`.
        slices_at_once: slices that pass the network together.
        paired: what both sides of a volume show alike counts for nothing, see `OppositeSide`; a network that cuts
            volumes itself sees to that too. ``"references"`` is for such networks alone.

    Shape:
        volumes ``(B, C, R, A, S)`` in RAS to ``(B, 1, R, A, S)``; slices, as in training, to what the network gives.

    Example:
        >>> ThreeAxesInferer()(torch.rand(1, 1, 16, 12, 5), torch.nn.Conv2d(1, 1, 1)).shape
        torch.Size([1, 1, 16, 12, 5])
    """

    def __init__(self, precision: str = "float32", slices_at_once: int = 32, paired: bool | str = False) -> None:
        super().__init__()
        self.mirrored = paired == REFERENCES
        self.opposite_side = OppositeSide() if paired and not self.mirrored else None
        self.per_slice, self.slices_at_once = PrecisionInferer(precision), slices_at_once

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        image = plain_tensor(inputs)
        # a fitting trainer calls a method of its network
        cuts_volumes = getattr(getattr(network, "__self__", network), "cuts_volumes", False)
        if self.mirrored and not cuts_volumes:
            todo = "leave out --paired"
            raise InputError("only what is fitted in one pass can be shown volumes mirrored", where="paired", todo=todo)
        if image.dim() == 4 or cuts_volumes:
            return self.per_slice(image, network, *args, **kwargs)
        found = torch.stack([self._along(axis, image, network) for axis in range(3)]).mean(0)
        return found if self.opposite_side is None else self.opposite_side(found, image)

    def _along(self, axis: int, image: Tensor, network: Any) -> Tensor:
        slices = upright_slices(image, axis)
        rows, columns = slices.shape[2:]
        square = padded(slices, max(image.shape[2:]))
        found = torch.cat([self.per_slice(some, network) for some in square.split(self.slices_at_once)])
        return volumes_of_slices(found[:, :, :rows, :columns], axis, len(image))


def scan_inferer(scan: ScanFormat, precision: str = "float32") -> Inferer:
    """How the network is called on scans: whole, slice by slice along one axis or all, or on tiles.

    Args:
        scan: how scans come to the network.
        precision: see `PrecisionInferer`.

    Example:
        >>> from medad_plugins.data import ScanFormat
        >>> infer = scan_inferer(ScanFormat(spatial_dims=3, image_size=16, slice_axis=0))
        >>> infer(torch.rand(1, 1, 16, 16, 16), torch.nn.Conv2d(1, 1, 1)).shape
        torch.Size([1, 1, 16, 16, 16])
    """
    tiles = scan.tiles
    if scan.slice_axis == ALL_AXES:
        return ThreeAxesInferer(precision, paired=scan.paired)
    if scan.slice_axis is not None:
        return SlicewiseInferer(int(scan.slice_axis), precision, tiles=tiles)
    return PrecisionInferer(precision) if tiles is None else TileInferer(tiles, precision)

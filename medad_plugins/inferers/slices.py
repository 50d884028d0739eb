"""Two-dimensional networks on volumes: every slice along one axis, and back to a volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.inferers import Inferer, SliceInferer
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.inferers.precision import PrecisionInferer
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["SlicewiseInferer", "network_dims", "network_size", "scan_inferer"]


def network_dims(spatial_dims: int, slice_axis: int | None) -> int:
    """Spatial axes of the network: those of the scans, or two where it sees the slices of volumes.

    Args:
        spatial_dims: of the scans, 2 or 3.
        slice_axis: axis of the volume (0, 1, 2; 2 is axial after orientation to RAS) along which it is cut into slices;
            None leaves it whole.

    Raises:
        InputError: if the scans have no slices, or no such axis.
    """
    if slice_axis is None:
        return spatial_dims
    if spatial_dims != 3 or slice_axis not in (0, 1, 2):
        raise InputError(
            "scans cannot be cut into slices so",
            where="slice_axis",
            expected="0, 1 or 2, with --spatial_dims 3",
            found=f"{slice_axis} with --spatial_dims {spatial_dims}",
        )
    return 2


def network_size(image_size: int | Sequence[int], slice_axis: int | None) -> int | list[int]:
    """Edges of what the network sees of scans: all, or those of a slice.

    Args:
        image_size: of the scans, one for all edges or each.
        slice_axis: see `network_dims`.
    """
    if isinstance(image_size, int):
        return image_size
    return [edge for axis, edge in enumerate(image_size) if axis != slice_axis]


class SlicewiseInferer(SliceInferer):
    """Passes every slice of a volume through a 2D network in a chosen precision.

    Args:
        slice_axis: axis of the volume along which it is cut, 0, 1 or 2.
        precision: see `PrecisionInferer`.
        slices_at_once: slices that pass the network together.

    Shape:
        volumes ``(B, C, *spatial)`` to ``(B, 1, *spatial)``; slices, as in training, to whatever the network gives.
    """

    def __init__(self, slice_axis: int, precision: str = "float32", slices_at_once: int = 32) -> None:
        # -1: whole slices, so nothing overlaps and nothing is blended
        super().__init__(slice_axis, roi_size=(-1, -1), sw_batch_size=slices_at_once)
        self.per_slice = PrecisionInferer(precision)

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        image = plain_tensor(inputs)
        if image.dim() == 4:
            return self.per_slice(image, network, *args, **kwargs)
        return super().__call__(image, lambda slices: self.per_slice(slices, network), *args, **kwargs)


def scan_inferer(precision: str = "float32", slice_axis: int | None = None) -> Inferer:
    """How the network is called on scans: whole, or slice by slice.

    Args:
        precision: see `PrecisionInferer`.
        slice_axis: see `network_dims`.
    """
    return PrecisionInferer(precision) if slice_axis is None else SlicewiseInferer(slice_axis, precision)

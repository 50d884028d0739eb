"""Slices of volumes along any axis, upright, and volumes put together of them again."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["ALL_AXES", "REFERENCES", "padded", "turned_upright", "upright_slices", "volumes_of_slices"]

# what `slice_axis` is where volumes are cut along all three axes
ALL_AXES = "all"
# what `paired` is where normal volumes are shown mirrored too
REFERENCES = "references"


def turned_upright(volumes: Tensor, axis: int) -> Tensor:
    """Volumes ``(B, C, R, A, S)`` in RAS with the axes of `UPRIGHT_SLICES` for an axis, and such volumes back in RAS.

    Two axes change places and are reversed, which done twice changes nothing.
    """
    if axis == 0:
        return volumes.transpose(3, 4).flip([3, 4])
    if axis == 1:
        return volumes.transpose(2, 4).flip([2, 4])
    return volumes.transpose(2, 3).flip([2, 3])


def upright_slices(volumes: Tensor, axis: int) -> Tensor:
    """All slices along an axis, upright, ``(B * n, C, rows, columns)``, volume by volume.

    Args:
        volumes: ``(B, C, R, A, S)`` in RAS.
        axis: 0, 1 or 2, along which they are cut.
    """
    return turned_upright(volumes, axis).movedim(2 + axis, 1).flatten(0, 1).contiguous()


def volumes_of_slices(slices: Tensor, axis: int, count: int) -> Tensor:
    """So many volumes ``(B, C, R, A, S)`` in RAS of the slices that `upright_slices` cuts, or of their maps."""
    stacked = slices.reshape([count, -1] + list(slices.shape[1:])).movedim(1, 2 + axis)
    return turned_upright(stacked, axis).contiguous()


def padded(slices: Tensor, edge: int) -> Tensor:
    """Slices ``(B, C, rows, columns)`` made ``edge`` high and wide by zeros below and on the right."""
    return functional.pad(slices, [0, edge - slices.shape[3], 0, edge - slices.shape[2]])

"""What every reader of a scan returns, whatever the file format."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["PICTURE_AFFINE", "Scan", "stored_bits_of"]

# A picture has no geometry; pixels of 1 mm, x to the patient's left and y downwards (as DICOM and ITK have it),
# make a map of it appear upright in a viewer.
PICTURE_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])


class Scan(NamedTuple):
    """The intensities of a scan and where they lie; nothing else of its header.

    Attributes:
        array: ``(*spatial)`` or ``(*spatial, C)``; axes are columns (x), rows (y)[, slices (z)].
        affine: ``(4, 4)`` float64, voxel index to mm in RAS, for 2D images too.
        stored_bits: 8 where the intensities are unsigned 8-bit numbers as stored (0..255), else 16, 32 or 64.
        has_channels: whether the last axis is channels.
        has_geometry: whether the file says where the scan lies, so that the affine can be compared with another's.
    """

    array: np.ndarray
    affine: np.ndarray
    stored_bits: int
    has_channels: bool
    has_geometry: bool = True


def stored_bits_of(dtype: np.dtype) -> int:
    """8 for unsigned 8-bit integers, whose range 0..255 is known; otherwise the width in bits, at least 16."""
    return 8 if dtype == np.uint8 else max(16, 8 * dtype.itemsize)

"""Small pictures of a scan: a thumbnail to compare intensities, and its local contrast to recognise copies by."""

from __future__ import annotations

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from medad_plugins.data import Scan

__all__ = ["Grid", "grey", "local_contrast", "resize", "to_unit_range", "upright"]

Grid = NDArray[np.float32]

# Damps local contrast where there is none: an empty background must not be blown up to look like structure.
_DAMPING = 0.1


def grey(scan: Scan) -> Grid:
    """The scan as one channel ``(*spatial)``, float32, in its own intensities; what is not finite becomes 0."""
    array = scan.array.mean(-1, dtype=np.float32) if scan.has_channels else scan.array.astype(np.float32)
    return array if scan.array.dtype.kind in "iu" else np.nan_to_num(array, copy=False, posinf=0.0, neginf=0.0)


def upright(array: Grid, affine: NDArray) -> Grid:
    """A volume with its axes turned to right, anterior, superior (nearest axes); pictures stay as they are."""
    if array.ndim != 3:
        return array
    return np.ascontiguousarray(nibabel.orientations.apply_orientation(array, nibabel.io_orientation(affine)))


def to_unit_range(array: Grid, stored_bits: int) -> Grid:
    """Intensities as 0..1: 8-bit ones by their range 0..255, others between the scan's 0.5 % and 99.5 % quantiles."""
    if stored_bits == 8:
        return array / np.float32(255)
    low, high = np.quantile(array, (0.005, 0.995))
    return ((array - low) / max(float(high - low), 1e-6)).clip(0, 1).astype(np.float32)


def resize(array: Grid, size: int) -> Grid:
    """Resample ``(*spatial)`` to ``size`` along every axis, averaging where it shrinks; the aspect ratio is lost."""
    for axis in range(array.ndim):
        rows = np.ascontiguousarray(np.moveaxis(array, axis, 0))
        flat = Image.fromarray(rows.reshape(len(rows), -1))
        small = flat.resize((flat.width, size), Image.Resampling.BILINEAR)
        array = np.moveaxis(np.asarray(small).reshape(size, *rows.shape[1:]), 0, axis)
    return np.ascontiguousarray(array)


def local_contrast(grid: Grid, fine: float, coarse: float) -> Grid:
    """Structure between two scales, divided by its local strength, with mean 0 and norm 1 (all 0 where there is none).

    What remains is where edges lie, not how strong they are: brightness, contrast, a bright lesion or a recompression
    change it little, another patient's anatomy changes it much.

    Args:
        grid: ``(*spatial)``.
        fine: standard deviation in pixels of the Gaussian below which structure is noise.
        coarse: standard deviation in pixels of the neighbourhood.
    """
    smooth = ndimage.gaussian_filter(grid, fine)
    band = smooth - ndimage.gaussian_filter(smooth, coarse)
    strength = np.sqrt(np.maximum(ndimage.gaussian_filter(band * band, coarse), 0))
    contrast = band / (strength + _DAMPING * grid.std() + 1e-6)
    contrast -= contrast.mean()
    norm = float(np.linalg.norm(contrast))
    return (contrast / norm if norm > 1e-3 else np.zeros_like(contrast)).astype(np.float32)

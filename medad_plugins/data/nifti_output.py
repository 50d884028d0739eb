"""Writing NIfTI files that lie where their scan lies, for every program that reads either of a header's two affines."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from medad_plugins.data.nifti_file import mm_of_unit, nifti_header
from medad_plugins.files import atomic_path

__all__ = ["nifti_in_place", "write_nifti"]

_PIECE = 2**24  # bytes that are compressed at once
_SIZES_PLACE = 80  # of pixdim[1] in the header

# All that says where voxels lie. ITK and nibabel prefer different ones of the two affines, so a file that has one of
# them alone is shown beside its scan by one of them.
_PLACE = (
    *("qform_code", "sform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)


def nifti_in_place(values: NDArray, affine: NDArray, source: str | os.PathLike[str] = "") -> nib.Nifti1Image:
    """Values on a scan's own grid as a NIfTI image.

    Args:
        values: ``(x, y)`` or ``(x, y, z)``; a 2D grid gets a third axis of 1.
        affine: of the scan, voxel index to mm in RAS.
        source: the scan's file. Where it is a NIfTI file of this grid, its qform, sform, their codes, voxel sizes and
            unit are taken over as they stand.
    """
    volume = values.reshape(values.shape + (1,) * (3 - values.ndim))
    affine = to_affine_nd(3, affine)
    header = nifti_header(Path(source)) if str(source) else None
    scale = 1.0 if header is None else mm_of_unit(header)
    if header is None or not np.allclose(scale * header.get_best_affine()[:3], affine[:3], atol=1e-4 * scale):
        image = nib.Nifti1Image(volume, affine)
        image.header.set_xyzt_units("mm")
        return image
    image = nib.Nifti1Image(volume, header.get_best_affine())
    for name in _PLACE:
        image.header[name] = header[name]
    image.header["pixdim"][:4] = header["pixdim"][:4]
    image.header["xyzt_units"] = int(header["xyzt_units"]) & 7 or 2  # the unit of space alone; millimetres if unknown
    return image


def write_nifti(
    path: str | os.PathLike[str], values: NDArray, affine: NDArray, source: str | os.PathLike[str] = ""
) -> None:
    """Write what `nifti_in_place` makes, atomically.

    Negative voxel sizes, by which ITK mirrors a scan and of which nibabel takes the magnitude, stay as they stand in
    the source.
    """
    image = nifti_in_place(values, affine, source)
    stored = nifti_header(Path(source), mended=False) if str(source) else None
    sizes = image.header["pixdim"][1:4] if stored is None else stored["pixdim"][1:4]
    content = bytearray(image.to_bytes())
    if np.array_equal(np.abs(sizes), image.header["pixdim"][1:4]) and (sizes < 0).any():
        # which nibabel would mend
        content[_SIZES_PLACE : _SIZES_PLACE + 12] = np.asarray(sizes, dtype=f"{image.header.endianness}f4").tobytes()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in _gzipped(content) if temporary.name.endswith(".gz") else [content]:
            file.write(part)


def _gzipped(content: bytearray) -> Iterator[bytes]:
    """The content as a gzip stream.

    Of a map, whose numbers hardly ever come twice, looking for repetitions costs 2.6 times the time and saves a
    hundredth; runs of one value, as in masks and backgrounds, are still found.
    """
    stream = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 8, zlib.Z_RLE)
    view = memoryview(content)
    for start in range(0, len(view), _PIECE):
        yield stream.compress(view[start : start + _PIECE])
    yield stream.flush()

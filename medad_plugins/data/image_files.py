"""Reading pictures (PNG, JPEG, BMP, TIFF) and NIfTI files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.lib.recfunctions import structured_to_unstructured
from PIL import Image, ImageOps, UnidentifiedImageError

from medad_plugins.data.scan import PICTURE_AFFINE, Scan, stored_bits_of
from medad_plugins.errors import InputError

__all__ = ["read_nifti", "read_picture"]

_DAMAGED = "copy the file again from its source"
# Pillow's modes that hold plain numbers already; every other mode is converted to one of them first.
_PLAIN_MODES = {"L", "RGB", "I;16", "I", "F", "LA", "RGBA"}
_CONVERT_TO = {"1": "L", "P": "RGB", "PA": "RGBA", "I;16B": "I", "I;16L": "I", "La": "LA", "RGBa": "RGBA"}
_EXIF_ORIENTATION = 0x0112


def read_picture(path: Path) -> Scan:
    """Read a PNG, JPEG, BMP or TIFF as ``(columns, rows)`` or, in colour, ``(columns, rows, 3)``.

    Palettes are resolved, an EXIF rotation is applied (so the grid is what viewers show) and a
    constant alpha channel is dropped.

    Raises:
        InputError: not an image, truncated, several pages, or transparency that varies over the image.
    """
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            if pages == 1:
                array, has_alpha = _picture_array(image)
    except UnidentifiedImageError as error:
        raise InputError(
            "the file is not an image", where=path, expected="PNG, JPEG, BMP or TIFF", todo="remove or replace it"
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise InputError("the image is truncated or damaged", where=path, todo=_DAMAGED) from error
    if pages > 1:
        todo = "save each page as a file of its own, or the stack as a NIfTI volume"
        raise InputError("the image file has several pages", where=path, expected=1, found=pages, todo=todo)
    if has_alpha:
        array = _drop_alpha(array, path)
    return Scan(array.swapaxes(0, 1), PICTURE_AFFINE.copy(), stored_bits_of(array.dtype), array.ndim == 3, False)


def _picture_array(image: Image.Image) -> tuple[np.ndarray, bool]:
    """Pixels as ``(rows, columns[, channels])`` and whether the last channel is alpha."""
    if image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in _PLAIN_MODES:
        image = image.convert(_CONVERT_TO.get(image.mode, "RGB"))
    return np.asarray(image), image.mode in ("LA", "RGBA")


def _drop_alpha(array: np.ndarray, path: Path) -> np.ndarray:
    alpha = array[..., -1]
    if alpha.min() != alpha.max():
        raise InputError(
            "the image has an alpha channel that varies",
            where=path,
            expected="grey or RGB",
            found="transparency",
            todo="save it without transparency",
        )
    return array[..., 0] if array.shape[-1] == 2 else array[..., :-1]


def read_nifti(path: Path) -> Scan:
    """Read a NIfTI file as ``(x, y)``, ``(x, y, z)`` or, with a fourth axis, channels last.

    A third axis of length 1 makes it a 2D image. The affine is the file's own, in RAS.

    Raises:
        InputError: not NIfTI, truncated, more axes than channels explain, complex numbers, no usable affine.
    """
    try:
        image = nibabel.load(path)
        array, stored_bits = _nifti_array(image)
        affine = np.array(image.affine, dtype=np.float64)  # type: ignore[attr-defined]
    except Exception as error:  # nibabel raises ImageFileError, OSError, EOFError, zlib.error, ValueError and others
        raise InputError("the NIfTI file is truncated, damaged or not NIfTI", where=path, todo=_DAMAGED) from error
    found = " x ".join(str(size) for size in array.shape)
    if np.iscomplexobj(array):
        raise InputError("the NIfTI file holds complex numbers", where=path, todo="save the magnitude image instead")
    if not np.isfinite(affine).all() or _is_flat(affine):
        todo = "repair the header, e.g. with fslcpgeom, or convert the scan again"
        raise InputError("the NIfTI file has no usable affine (sform/qform)", where=path, todo=todo)
    channel_axes = tuple(size for size in array.shape[3:] if size != 1)
    if array.ndim < 2 or len(channel_axes) > 1 or array.size == 0:
        raise InputError(
            "the NIfTI file is not an image", where=path, expected="2 or 3 axes and one of channels", found=found
        )
    spatial = array.shape[:3] if array.shape[2:3] != (1,) else array.shape[:2]
    lies_somewhere = _says_where(image.header) and not np.array_equal(
        affine, np.eye(4)
    )  # which programs write for none
    return Scan(array.reshape(spatial + channel_axes), affine, stored_bits, bool(channel_axes), lies_somewhere)


def _says_where(header: Any) -> bool:
    return any(int(header.get(code, 0)) > 0 for code in ("sform_code", "qform_code"))


def _is_flat(affine: np.ndarray) -> bool:
    """Whether the axes span no space, however small the voxels are."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool((lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6)


def _nifti_array(image: nibabel.filebasedimages.FileBasedImage) -> tuple[np.ndarray, int]:
    data = image.dataobj  # type: ignore[attr-defined]
    if (data.slope, data.inter) != (1.0, 0.0):
        return image.get_fdata(dtype=np.float32, caching="unchanged"), 32  # type: ignore[attr-defined]
    array = np.asanyarray(data)
    if array.dtype.fields is not None:  # RGB24 and RGBA32
        array = structured_to_unstructured(array)[..., :3].reshape(*(array.shape + (1, 1))[:3], -1)
    return array, stored_bits_of(array.dtype)

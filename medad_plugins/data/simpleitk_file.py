"""Reading NRRD and MetaImage files, and colour of 16 bits, by the optional package SimpleITK."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from medad_plugins.data.file_content import DAMAGED, require_content
from medad_plugins.data.scan import Scan, stored_bits_of
from medad_plugins.data.volume_parts import check_volume_parts
from medad_plugins.errors import InputError

__all__ = ["FORMATS_TODO", "VOLUME_SUFFIXES", "read_simpleitk", "read_wide_colour", "simpleitk_is_installed"]

VOLUME_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
FORMATS_TODO = "install it with `pip install 'medad-plugins[formats]'`, or convert the scan"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def simpleitk_is_installed() -> bool:
    """Whether the optional package is there."""
    return find_spec("SimpleITK") is not None


def _simpleitk(path: Path) -> Any:
    try:
        return importlib.import_module("SimpleITK")
    except ImportError as error:
        raise InputError("files of this format need the package SimpleITK", where=path, todo=FORMATS_TODO) from error


def read_simpleitk(path: Path) -> Scan:
    """Read a NRRD or MetaImage file, in one part or two, as `read_nifti` does a NIfTI file.

    Raises:
        InputError: SimpleITK is not installed, the file is truncated, damaged or of another format, or it holds complex
            numbers, more axes than channels explain or no usable geometry.
    """
    require_content(path)
    package = _simpleitk(path)
    try:
        check_volume_parts(path)
    except (ValueError, OverflowError) as error:  # numbers in the header that are none
        if isinstance(error, InputError):
            raise
        raise InputError("the file is truncated or damaged", where=path, todo=DAMAGED) from error
    image = _read(package, path)
    if "complex" in image.GetPixelIDTypeAsString():
        raise InputError("the file holds complex numbers", where=path, todo="save the magnitude image instead")
    array = package.GetArrayFromImage(image)
    has_components = image.GetNumberOfComponentsPerPixel() > 1
    dims = image.GetDimension()
    # ITK has the slowest axis first, components last
    array = array.transpose(*range(dims - 1, -1, -1), *([dims] if has_components else []))
    channel_axes = tuple(size for size in array.shape[3:dims] if size != 1)
    if len(channel_axes) + has_components > 1 or dims < 2:
        found = " x ".join(str(size) for size in array.shape)
        expected = "2 or 3 axes and one of channels"
        raise InputError("the file is not an image", where=path, expected=expected, found=found)
    spatial = array.shape[: min(dims, 3)]
    spatial = spatial[:2] if spatial[2:] == (1,) else spatial
    channels = channel_axes or ((array.shape[-1],) if has_components else ())
    array = array.reshape(spatial + channels)
    affine = _affine(image, path)
    says_where = not np.array_equal(affine, _LPS_TO_RAS)  # what ITK takes for none
    return Scan(array, affine, stored_bits_of(array.dtype), bool(channels), says_where)


def _read(package: Any, path: Path) -> Any:
    warnings_on = package.ProcessObject.GetGlobalWarningDisplay()
    package.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return package.ReadImage(str(path))
    except Exception as error:  # RuntimeError, and whatever else damaged bytes provoke
        raise InputError(
            "the file is truncated, damaged or of another format than its name says", where=path, todo=DAMAGED
        ) from error
    finally:
        package.ProcessObject.SetGlobalWarningDisplay(warnings_on)


def _affine(image: Any, path: Path) -> np.ndarray:
    dims = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(dims, dims)
    count = min(dims, 3)
    affine = np.eye(4)
    affine[:count, :count] = direction[:count, :count] * np.array(image.GetSpacing())[:count]
    affine[:count, 3] = np.array(image.GetOrigin())[:count]
    affine = _LPS_TO_RAS @ affine
    volume = np.linalg.norm(affine[:3, :3], axis=0).prod()
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * volume:
        todo = "repair the header, or convert the scan again"
        raise InputError("the file has no usable geometry", where=path, todo=todo)
    return affine


def read_wide_colour(path: Path) -> np.ndarray:
    """The pixels of a PNG or TIFF in colour of 16 bits a channel, ``(rows, columns, channels)`` as stored.

    Raises:
        InputError: SimpleITK is not installed or reads it as something else.
    """
    package = _simpleitk(path)
    array: np.ndarray = package.GetArrayFromImage(_read(package, path))
    if array.ndim != 3 or array.dtype != np.uint16 or array.shape[-1] not in (2, 3, 4):
        raise InputError("this kind of picture is not read", where=path, expected="RGB", todo="convert it")
    return array

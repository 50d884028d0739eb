"""Reading NIfTI files: one file, plain or gzip-compressed, or a pair of .hdr and .img."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.volumeutils import apply_read_scaling
from numpy.lib.recfunctions import structured_to_unstructured

from medad_plugins.data.file_content import DAMAGED, file_bytes, gunzip, is_gzip
from medad_plugins.data.scan import Scan, stored_bits_of
from medad_plugins.errors import InputError

__all__ = ["mm_of_unit", "nifti_forms", "nifti_header", "read_nifti"]

_HEADER_CLASSES = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
_MAGIC_PLACE = {348: 344, 540: 4}
_PAIR_MAGIC, _SINGLE_MAGIC = (b"ni1", b"ni2"), (b"n+1", b"n+2")
# Other compressions by their first bytes, and what undoes them.
_COMPRESSIONS = {b"\x28\xb5\x2f\xfd": "zstd -d", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"PK\x03\x04": "unzip"}
_MM_OF_UNIT = {1: 1000.0, 2: 1.0, 3: 0.001}  # metres, millimetres, micrometres
_LONGEST_HEADER = 540
# What follows the voxels may be the rest of a block of a disk or tape, but no more.
_BLOCK = 512


def read_nifti(path: Path) -> Scan:
    """Read a NIfTI file as ``(x, y)``, ``(x, y, z)`` or, with a fourth axis, channels last.

    A third axis of length 1 makes it a 2D image. The affine is the file's own, in RAS, in mm whatever unit it was in.
    Whether a file is compressed is seen by its content, not by its name, and a gzip stream is read to its end, so that
    its checksum counts. Of a pair, either file may be given.

    Raises:
        InputError: not NIfTI, truncated, longer than its header says, a wrong checksum, more axes than channels
            explain, complex numbers, scaling or an affine that cannot be used.
    """
    content = _plain_content(path)
    is_header = _magic(content).startswith(_PAIR_MAGIC)
    if is_header or not _magic(content).startswith(_SINGLE_MAGIC):
        content, voxels = _of_pair(path, content, is_header)
    else:
        voxels = content
    try:
        header = _header(content)
        shape, dtype = tuple(int(size) for size in header.get_data_shape()), header.get_data_dtype()
        start = max(0, int(header.get_data_offset()))
        affine = np.array(header.get_best_affine(), dtype=np.float64)
        length = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    except Exception as error:  # nibabel raises HeaderDataError, WrapStructError, ValueError, KeyError and others
        raise InputError("the NIfTI file is truncated, damaged or not NIfTI", where=path, todo=DAMAGED) from error
    _check_length(len(voxels) - start, length, voxels[start + length :], path)
    if not shape or length <= 0:
        raise _no_image(shape, path)
    stored = np.frombuffer(voxels, dtype, count=length // dtype.itemsize, offset=start).reshape(shape, order="F")
    array, stored_bits = _intensities(stored, header, path)
    affine[:3] *= mm_of_unit(header)
    _check_affine(affine, path)
    channel_axes = tuple(size for size in array.shape[3:] if size != 1)
    if array.ndim < 2 or len(channel_axes) > 1:
        raise _no_image(array.shape, path)
    spatial = array.shape[:3] if array.shape[2:3] != (1,) else array.shape[:2]
    array = array.reshape(spatial + channel_axes, order="F")
    return Scan(array, affine, stored_bits, bool(channel_axes), _says_where(header, affine))


def nifti_header(path: Path, mended: bool = True) -> Nifti1Header | None:
    """The header of a NIfTI file, of which no more is read; None where there is none that can be read.

    Args:
        path: of the file.
        mended: False leaves as they are what nibabel sets right, e.g. negative voxel sizes.
    """
    if not path.is_file():
        return None
    try:
        for file in (path, _partner(path)):
            content = b"" if file is None else _first_bytes(file)
            if _magic(content).startswith((*_PAIR_MAGIC, *_SINGLE_MAGIC)):
                return _header(content, mended)
    except Exception:  # what damaged bytes provoke in nibabel and zlib
        return None
    return None


def nifti_forms(path: Path) -> list[np.ndarray]:
    """The affines that a NIfTI file gives, sform and qform, ``(4, 4)`` in mm, as far as they are there and usable."""
    header = nifti_header(path)
    if header is None:
        return []
    forms = [(header["sform_code"], header.get_sform), (header["qform_code"], header.get_qform)]
    found = [np.array(read(), dtype=np.float64) for code, read in forms if int(code) > 0]
    for affine in found:
        affine[:3] *= mm_of_unit(header)
    return [affine for affine in found if _spans_space(affine)]


def _first_bytes(path: Path) -> bytes:
    with open(path, "rb") as file:
        is_packed = is_gzip(file.read(2))
    with gzip.open(path) if is_packed else open(path, "rb") as file:
        return file.read(_LONGEST_HEADER)


def mm_of_unit(header: Nifti1Header) -> float:
    """Millimetres of the unit in which a header gives places and sizes."""
    return _MM_OF_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)


def _says_where(header: Nifti1Header, affine: np.ndarray) -> bool:
    """Whether either form is there, and not the identity, which programs write for want of another."""
    is_coded = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return is_coded and not np.array_equal(affine, np.eye(4))


def _no_image(shape: tuple[int, ...], path: Path) -> InputError:
    found = " x ".join(str(size) for size in shape) or "no axes"
    return InputError(
        "the NIfTI file is not an image", where=path, expected="2 or 3 axes and one of channels", found=found
    )


def _plain_content(path: Path) -> bytes:
    content = file_bytes(path)
    if is_gzip(content):
        return gunzip(content, path)
    for mark, command in _COMPRESSIONS.items():
        if content.startswith(mark):
            todo = f"unpack it, e.g. with `{command}`, and compress it with `gzip` if at all"
            raise InputError(
                "the compression of the NIfTI file is not read", where=path, expected=".nii or .nii.gz", todo=todo
            )
    return content


def _header_length(content: bytes) -> int:
    """348 or 540, 0 where it is no header of NIfTI or Analyze; either byte order."""
    for order in "<>":
        if len(content) >= 348 and (length := struct.unpack(f"{order}i", content[:4])[0]) in _HEADER_CLASSES:
            return int(length)
    return 0


def _magic(content: bytes) -> bytes:
    place = _MAGIC_PLACE.get(_header_length(content), 0)
    return content[place : place + 4] if place else b""


def _header(content: bytes, mended: bool = True) -> Nifti1Header:
    return _HEADER_CLASSES[_header_length(content)].from_fileobj(io.BytesIO(content), check=mended)


def _of_pair(path: Path, content: bytes, is_header: bool) -> tuple[bytes, bytes]:
    """Header and voxels of a scan in two files, one of which is given.

    Raises:
        InputError: it is no NIfTI, or the other file is missing.
    """
    if _header_length(content) == 348 and not is_header:
        raise InputError(
            "the file is Analyze 7.5, which does not say what is left and right",
            where=path,
            expected="NIfTI",
            todo="convert it to NIfTI with the program that made it",
        )
    other = _partner(path)
    if other is None:
        if is_header:
            raise InputError("the NIfTI header lacks its .img", where=path, todo="give both files of the pair")
        raise InputError("the NIfTI file is truncated, damaged or not NIfTI", where=path, todo=DAMAGED)
    found = _plain_content(other)
    if not is_header and not _magic(found).startswith(_PAIR_MAGIC):
        return _of_pair(other, found, False)
    return (content, found) if is_header else (found, content)


def _partner(path: Path) -> Path | None:
    """The .img of a .hdr or the other way round, compressed or not."""
    name = path.name
    plain = name[:-3] if name.lower().endswith(".gz") else name
    swapped = {".hdr": ".img", ".img": ".hdr"}.get(plain[-4:].lower())
    if swapped is None:
        return None
    suffixes = [suffix + ending for suffix in (swapped, swapped.upper()) for ending in ("", ".gz", ".GZ")]
    return next((file for suffix in suffixes if (file := path.with_name(plain[:-4] + suffix)).is_file()), None)


def _check_length(found: int, expected: int, rest: bytes, path: Path) -> None:
    """Refuse data of another length than the header describes: data or header are not what they were."""
    if found < expected:
        raise InputError(
            "the NIfTI file is truncated, damaged or not NIfTI",
            where=path,
            expected=f"{expected} bytes of voxels",
            found=max(0, found),
            todo=DAMAGED,
        )
    if len(rest) >= _BLOCK or rest.strip(b"\0"):
        raise InputError(
            "the NIfTI file is longer than its header says",
            where=path,
            expected=f"{expected} bytes of voxels",
            found=found,
            todo="convert the scan again",
        )


def _intensities(stored: np.ndarray, header: Nifti1Header, path: Path) -> tuple[np.ndarray, int]:
    if np.iscomplexobj(stored):
        raise InputError("the NIfTI file holds complex numbers", where=path, todo="save the magnitude image instead")
    if stored.dtype.fields is not None:  # RGB24 and RGBA32
        channels = structured_to_unstructured(stored)
        if channels.shape[-1] == 4 and channels[..., 3].min() != channels[..., 3].max():
            todo = "save it without transparency"
            raise InputError("the NIfTI file has transparency that varies", where=path, todo=todo)
        return channels[..., :3].reshape(*(stored.shape + (1, 1))[:3], -1), 8
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    # 0 means no scaling, and SPM and nibabel write NaN for that
    if slope == 0 or np.isnan(slope):
        slope, inter = 1.0, 0.0
    if not np.isfinite(slope) or not np.isfinite(inter):
        found = f"scl_slope {slope:g} and scl_inter {inter:g}"
        raise InputError("the NIfTI file has no usable scaling", where=path, found=found, todo="repair its header")
    if (slope, inter) == (1.0, 0.0):
        return stored, stored_bits_of(stored.dtype)
    return np.asarray(apply_read_scaling(stored, np.float64(slope), np.float64(inter)), dtype=np.float32), 32


def _check_affine(affine: np.ndarray, path: Path) -> None:
    if not _spans_space(affine):
        todo = "repair the header, e.g. with fslcpgeom, or convert the scan again"
        raise InputError("the NIfTI file has no usable affine (sform/qform)", where=path, todo=todo)


def _spans_space(affine: np.ndarray) -> bool:
    # relative to the voxel's edges: voxels of a micrometre are as good as any
    volume = np.linalg.norm(affine[:3, :3], axis=0).prod()
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-6 * volume)

"""Finding scans below a folder and reading any of them, whatever the format."""

from __future__ import annotations

import os
from pathlib import Path

from medad_plugins.data.dicom_file import is_dicom
from medad_plugins.data.dicom_folder import dicom_files
from medad_plugins.data.dicom_series import holds_volume, read_dicom_scan
from medad_plugins.data.file_content import not_to_be_read, require_content
from medad_plugins.data.left_out import LeftOut
from medad_plugins.data.nifti_file import read_nifti
from medad_plugins.data.picture_file import read_picture
from medad_plugins.data.scan import Scan
from medad_plugins.data.simpleitk_file import VOLUME_SUFFIXES, read_simpleitk
from medad_plugins.errors import InputError

__all__ = ["NIFTI_SUFFIXES", "PICTURE_SUFFIXES", "SCAN_SUFFIXES", "find_scans", "read_scan"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# with the header of a scan in two files
NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz")
# refused one by one, so that none of them is overlooked
_PACKED_NIFTI_SUFFIXES = tuple(f".nii.{packing}" for packing in ("zst", "bz2", "xz", "lz4", "zip", "z"))
_NIFTI_VOXELS = (".img", ".img.gz")
SCAN_SUFFIXES = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *VOLUME_SUFFIXES, ".dcm")
_BY_SUFFIX = (*PICTURE_SUFFIXES, *NIFTI_SUFFIXES, *_PACKED_NIFTI_SUFFIXES, *VOLUME_SUFFIXES)
# The second file of a scan in two, and what names the first.
_COMPANIONS = {
    **dict.fromkeys(_NIFTI_VOXELS, (".hdr", ".hdr.gz")),
    **dict.fromkeys((".raw", ".zraw", ".raw.gz"), (".mhd", ".nhdr")),
}
# where a MONAI Label server keeps the masks of a folder of studies, and how such a folder is known
_LABEL_FOLDER, _LABEL_LIST = "labels", "datastore_v2.json"
_READABLE = "PNG, JPEG, BMP, TIFF, NIfTI, DICOM, NRRD or MetaImage"


def find_scans(folder: Path) -> list[Path]:
    """Find every scan below a folder, sorted by path.

    A folder whose DICOM files include slices of a series counts as one scan (the folder itself, also where reading it
    will fail, e.g. for a missing slice); other DICOM files, pictures, NIfTI, NRRD and MetaImage files count one by one,
    files in two parts by their header. The labels of a
    MONAI Label server are no scans. Files without a known suffix are taken where their content is DICOM. All else
    that is found there, hidden files, folders without permission and images of other formats, is named in one line of
    the log.

    Raises:
        InputError: the folder does not exist or may not be read, or nothing readable is in it.

    Example:
        >>> from medad_plugins.data import sample_cohort
        >>> scans = find_scans(sample_cohort(2) / "images")
        >>> len(scans), scans[0].name
        (380, 'test_000_normal.png')
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("the folder does not exist", where=folder, todo="check the path")
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise not_to_be_read(folder, error) from error
    scans: list[Path] = []
    left_out = LeftOut(folder)
    visited: set[str] = set()
    for parent, names, files in os.walk(folder, followlinks=True, onerror=left_out.add_folder):
        if (real := os.path.realpath(parent)) in visited:
            names.clear()
            continue
        visited.add(real)
        left_out.hidden += [Path(parent, name) for name in names if name.startswith(".")]
        left_out.hidden += [Path(parent, name) for name in files if name.startswith(".") and _is_scan_name(name)]
        names[:] = [name for name in names if not name.startswith(".")]
        if _LABEL_LIST in files and _LABEL_FOLDER in names:
            names.remove(_LABEL_FOLDER)
            left_out.labels.append(Path(parent, _LABEL_FOLDER))
        scans += _scans_among([Path(parent, name) for name in files if not name.startswith(".")], left_out)
    left_out.report()
    if not scans:
        found = str(left_out) or "nothing"
        todo = "check the path"
        raise InputError(
            "no scan in the folder", where=folder, expected=f"{_READABLE} files", found=found[:400], todo=todo
        )
    return sorted(scans)


def _scans_among(paths: list[Path], left_out: LeftOut) -> list[Path]:
    """The scans among the files of one folder."""
    names = {path.name.lower() for path in paths}
    images = [path for path in paths if _has_suffix(path, _BY_SUFFIX)]
    others = [path for path in paths if not _has_suffix(path, _BY_SUFFIX) and not _is_companion(path, names)]
    slices = dicom_files(others[0].parent) if others else []
    for path in sorted(set(others) - set(slices)):
        left_out.add_file(path)
    if slices and holds_volume(slices):
        return [*images, slices[0].parent]
    return [*images, *slices]


def _is_scan_name(name: str) -> bool:
    return name.lower().endswith((*_BY_SUFFIX, ".dcm"))


def _has_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes)


def _is_companion(path: Path, names: set[str]) -> bool:
    name = path.name.lower()
    for suffix, headers in _COMPANIONS.items():
        if name.endswith(suffix) and any(name[: -len(suffix)] + header in names for header in headers):
            return True
    return False


def read_scan(path: Path) -> Scan:
    """Read a picture, a NIfTI, NRRD or MetaImage file, a DICOM file, or a folder that is one DICOM series.

    Raises:
        InputError: the path is empty or does not exist, or its content cannot be read or is no single scan.

    Example:
        >>> from pathlib import Path
        >>> from medad_plugins.data import find_cases
        >>> scan = read_scan(Path(find_cases()[0]["image"]))
        >>> scan.array.shape, scan.stored_bits, scan.has_channels
        ((128, 128), 8, False)
    """
    if path.is_dir():
        return read_dicom_scan(path)
    if not path.is_file():
        raise _missing(path)
    if _has_suffix(path, PICTURE_SUFFIXES):
        return read_picture(path)
    if _has_suffix(path, (*NIFTI_SUFFIXES, *_NIFTI_VOXELS, *_PACKED_NIFTI_SUFFIXES)):
        return read_nifti(path)
    if _has_suffix(path, VOLUME_SUFFIXES):
        return read_simpleitk(path)
    require_content(path)
    if path.suffix.lower() == ".dcm" or is_dicom(path):
        return read_dicom_scan(path)
    raise InputError("the file has no known image format", where=path, expected=_READABLE, todo="convert it")


def _missing(path: Path) -> InputError:
    """Why there is no such file; a folder without permission hides what is in it."""
    try:
        path.stat()
    except PermissionError as error:
        return not_to_be_read(path, error)
    except OSError:
        pass
    return InputError("the scan does not exist", where=path, todo="check the path")

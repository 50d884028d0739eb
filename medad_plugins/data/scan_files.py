"""Finding scans below a folder and reading any of them, whatever the format."""

from __future__ import annotations

import os
from pathlib import Path

from medad_plugins.data.dicom_file import is_dicom
from medad_plugins.data.dicom_series import dicom_files, holds_volume, read_dicom_scan
from medad_plugins.data.image_files import read_nifti, read_picture
from medad_plugins.data.scan import Scan
from medad_plugins.errors import InputError

__all__ = ["NIFTI_SUFFIXES", "PICTURE_SUFFIXES", "find_scans", "read_scan"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
_READABLE = "PNG, JPEG, BMP, TIFF, NIfTI or DICOM"


def find_scans(folder: Path) -> list[Path]:
    """Find every scan below a folder, sorted by path.

    A folder whose DICOM files include slices of a series counts as one scan (the folder itself, also where reading it
    will fail, e.g. for a missing slice); other DICOM files, pictures and NIfTI files count one by one. Files without a
    known suffix are taken where their content is DICOM. Hidden files and folders are skipped.

    Raises:
        InputError: the folder does not exist, or nothing readable is in it.

    Example:
        >>> from medad_plugins.data import sample_cohort
        >>> scans = find_scans(sample_cohort(2) / "images")
        >>> len(scans), scans[0].name
        (380, 'test_000_normal.png')
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("the folder does not exist", where=folder, todo="check the path")
    scans: list[Path] = []
    visited: set[str] = set()
    for parent, names, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in visited:
            names.clear()
            continue
        visited.add(real)
        names[:] = [name for name in names if not name.startswith(".")]
        paths = [Path(parent, name) for name in files if not name.startswith(".")]
        images = [path for path in paths if path.name.lower().endswith(PICTURE_SUFFIXES + NIFTI_SUFFIXES)]
        slices = dicom_files(Path(parent)) if len(images) < len(paths) else []
        scans += images + ([Path(parent)] if holds_volume(slices) else slices)
    if not scans:
        raise InputError("no scan in the folder", where=folder, expected=f"{_READABLE} files", todo="check the path")
    return sorted(scans)


def read_scan(path: Path) -> Scan:
    """Read a picture, a NIfTI file, a DICOM file, or a folder that is one DICOM series.

    Raises:
        InputError: the path does not exist, or its content cannot be read or is no single scan.

    Example:
        >>> from pathlib import Path
        >>> from medad_plugins.data import find_cases
        >>> scan = read_scan(Path(find_cases()[0]["image"]))
        >>> scan.array.shape, scan.stored_bits, scan.has_channels
        ((128, 128), 8, False)
    """
    name = path.name.lower()
    if path.is_dir():
        return read_dicom_scan(path)
    if not path.is_file():
        raise InputError("the scan does not exist", where=path, todo="check the path")
    if name.endswith(PICTURE_SUFFIXES):
        return read_picture(path)
    if name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path)
    if name.endswith(".dcm") or is_dicom(path):
        return read_dicom_scan(path)
    raise InputError("the file has no known image format", where=path, expected=_READABLE, todo="convert it")

"""Which files of a folder are DICOM, and which ought to be but are damaged."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from pathlib import Path

from medad_plugins.data.dicom_file import is_dicom
from medad_plugins.data.file_content import DAMAGED, not_to_be_read
from medad_plugins.errors import InputError

__all__ = ["dicom_files", "refuse_damaged_files"]

_TEXT = frozenset(string.printable.encode()) | frozenset(range(128, 256))


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files directly in a folder, sorted by name; hidden files, DICOMDIR and other files are left out.

    Raises:
        InputError: the folder may not be read.
    """
    return sorted(path for path in _visible(folder) if path.suffix.lower() == ".dcm" or is_dicom(path))


def _visible(folder: Path) -> list[Path]:
    try:
        paths = list(folder.iterdir())
        return [
            path
            for path in paths
            if not path.name.startswith(".") and path.name.upper() != "DICOMDIR" and path.is_file()
        ]
    except OSError as error:
        raise not_to_be_read(folder, error) from error


def refuse_damaged_files(folder: Path, files: Sequence[Path]) -> None:
    """Refuse a series beside which lies a file that must be one of its slices but bears no mark of DICOM.

    An empty or truncated slice at either end of a series would otherwise be missed by nobody. Meant are files that are
    named as the DICOM files are (with their suffix, or with none), unless they hold text.

    Args:
        folder: the series' folder.
        files: the DICOM files in it.

    Raises:
        InputError: there is such a file, or one that may not be read.
    """
    taken, suffixes = set(files), {"", *map(_suffix, files)}
    for path in sorted(set(_visible(folder)) - taken):
        if _suffix(path) not in suffixes:
            continue
        try:
            with open(path, "rb") as file:
                first = file.read(512)
        except OSError as error:
            raise not_to_be_read(path, error) from error
        if not first or not _TEXT.issuperset(first):
            found = "it is empty" if not first else "no mark of DICOM"
            what = "a file among the slices of a DICOM series is damaged"
            raise InputError(what, where=path, found=found, todo=f"{DAMAGED}, or remove it")


def _suffix(path: Path) -> str:
    """The suffix, where it is one: the last part of an identifier is none."""
    return suffix if re.fullmatch(r"\.[a-z][a-z0-9]{0,7}", suffix := path.suffix.lower()) else ""

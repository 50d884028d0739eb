"""Data folders whose structure is the list: `train/normal`, `test/<class>`, as MVTec, BMAD and MedIAnomaly have it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from medad_plugins.data.scan_files import SCAN_SUFFIXES, find_scans
from medad_plugins.errors import InputError

__all__ = ["SPLIT_NAMES", "class_folder_rows", "has_class_folders", "scan_stem", "scans_below", "visible_folders"]

logger = logging.getLogger(__name__)

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
NORMAL_NAMES = ("normal", "good")
_LONGEST_FIRST = sorted(SCAN_SUFFIXES, key=len, reverse=True)
MASK_FOLDERS = ("masks", "ground_truth", "annotation")


def scan_stem(name: str) -> str:
    """File name without its image extension; other names, such as a DICOM series' folder, stay whole."""
    for extension in _LONGEST_FIRST:
        if name.lower().endswith(extension) and len(name) > len(extension):
            return name[: -len(extension)]
    return name


def has_class_folders(folder: Path) -> bool:
    """Whether a split of the folder has a class called normal or good."""
    return any(_is_normal(name) for split in _splits(folder) for name in visible_folders(split))


def class_folder_rows(folder: Path) -> Iterator[dict[str, str]]:
    """Rows (``image``, ``label``, ``mask``, ``split``, ``class``; absolute paths) of a folder of class folders.

    A class called normal or good has label 0, any other 1. Scans lying directly in ``train`` are normal. Masks of
    abnormal scans have the scans' names (or end in _mask or _seg) in ``masks/<split>/<class>``, ``masks/<class>``,
    ``test/masks/<class>``, ``masks`` or ``test/masks`` (or ``ground_truth``, ``annotation``), or beside ``img`` in
    BMAD's ``test/<class>/label`` or ``anomaly_mask``.

    Raises:
        InputError: one mask fits two scans.
    """
    rows = []
    unsorted = _loose_scans(folder)
    unsorted += [path for path in visible_folders(folder) if path.name.lower() not in (*SPLIT_NAMES, *MASK_FOLDERS)]
    for split in _splits(folder):
        name = SPLIT_NAMES[split.name.lower()]
        classes = [child for child in visible_folders(split) if child.name.lower() not in MASK_FOLDERS]
        if not classes and name == "train":
            rows += [_row(scan, "normal", name, "") for scan in scans_below(split)]
        else:
            unsorted += _loose_scans(split)
        for kind in classes:
            images = kind / "img" if (kind / "img").is_dir() else kind
            masks = [] if _is_normal(kind) else _mask_indices(folder, split, kind)
            rows += [_row(scan, kind.name, name, _mask_of(scan, images, masks)) for scan in scans_below(images)]
    _refuse_shared_masks(rows, folder)
    if unsorted:
        names = ", ".join(os.path.relpath(path, folder) for path in unsorted[:5])
        more = f" and {len(unsorted) - 5} more" if len(unsorted) > 5 else ""
        logger.warning("%s: left out, for they are in no class of a split: %s%s.", folder, names, more)
    abnormal = sum(row["label"] == "1" for row in rows)
    masked = sum(bool(row["mask"]) for row in rows)
    logger.info(
        "%s: %d scans in class folders, %d of %d abnormal ones with a mask.", folder, len(rows), masked, abnormal
    )
    yield from rows


def _row(scan: Path, kind: str, split: str, mask: str) -> dict[str, str]:
    label = "0" if kind.lower() in NORMAL_NAMES else "1"
    return {"image": os.path.abspath(scan), "label": label, "mask": mask, "split": split, "class": kind}


def _is_normal(folder: Path) -> bool:
    return folder.name.lower() in NORMAL_NAMES


def visible_folders(folder: Path) -> list[Path]:
    """Folders directly in a folder but hidden ones, sorted."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _splits(folder: Path) -> list[Path]:
    return [child for child in visible_folders(folder) if child.name.lower() in SPLIT_NAMES]


def scans_below(folder: Path) -> list[Path]:
    """Scans below a folder; an empty class is no error."""
    return find_scans(folder) if any(path.is_file() for path in folder.rglob("*")) else []


def _loose_scans(folder: Path) -> list[Path]:
    """Scans that lie directly in a folder."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(SCAN_SUFFIXES))


def _mask_indices(folder: Path, split: Path, kind: Path) -> list[dict[str, str]]:
    """For each folder that may hold the masks of a class, the nearest one first: mask path by relative stem."""
    places = [kind / name for name in ("label", "anomaly_mask")] if (kind / "img").is_dir() else []
    for parent, below in ((folder, (split.name, kind.name)), (folder, (kind.name,)), (split, (kind.name,))):
        places += [parent.joinpath(name, *below) for name in MASK_FOLDERS]
    places += [parent / name for parent in (split, folder) for name in MASK_FOLDERS]
    return [_stems(place) for place in places if place.is_dir()]


def _stems(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {_stem_below(path, folder): os.path.abspath(path) for path in files}


def _stem_below(path: Path, folder: Path) -> str:
    return (path.parent.relative_to(folder) / scan_stem(path.name)).as_posix()


def _mask_of(scan: Path, folder: Path, indices: list[dict[str, str]]) -> str:
    stem = _stem_below(scan, folder)
    # MedIAnomaly's BraTS2021 slices: ..._flair_60.png in tumor/ and ..._seg_60.png in annotation/
    for name in (stem, f"{stem}_mask", f"{stem}_seg", stem.replace("flair", "seg")):
        for index in indices:
            if name in index:
                return index[name]
    return ""


def _refuse_shared_masks(rows: list[dict[str, str]], folder: Path) -> None:
    owner: dict[str, str] = {}
    for row in rows:
        if row["mask"] and owner.setdefault(row["mask"], row["image"]) != row["image"]:
            found = f"{os.path.relpath(owner[row['mask']], folder)} and {os.path.relpath(row['image'], folder)}"
            todo = "sort the masks into masks/<split>/<class>"
            raise InputError("one mask fits two scans", where=row["mask"], found=found, todo=todo)

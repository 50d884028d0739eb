"""The cases of a data folder or list, found and checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medad_plugins.data.datalists import LIST_NAMES, Case, find_datalist, make_case_ids, read_datalist, same_keys
from medad_plugins.data.scan_files import find_scans
from medad_plugins.errors import InputError
from medad_plugins.files import home_path

__all__ = ["LAYOUTS", "CaseSource", "case_source", "cases_where", "find_cases", "require_files"]

logger = logging.getLogger(__name__)

LAYOUTS = f"{', '.join(LIST_NAMES)}, or the folders train/normal and test/<class>"


def find_cases(
    dataset_dir: str | Path | None = "",
    datalist: str | Path | None = "",
    split: str = "test",
    spatial_dims: int = 2,
    where: str = "",
) -> list[Case]:
    """The cases to run a trained network on.

    Args:
        dataset_dir: a folder with a datalist or with class folders, any other folder with scans in it, or one scan;
            empty takes the built-in sample cohort.
        datalist: file name in ``dataset_dir`` or path; empty looks for the usual names.
        split: "train", "val", "test" or "all"; where the list has no splits, all its cases are taken.
        spatial_dims: 2 or 3, which of the sample cohorts.
        where: ``column=value`` limits the cases to the rows of a list that have this value, e.g. ``rep=1``.

    Returns:
        cases of equal keys, in the order of the list; without ``label`` where it is not known of all.

    Raises:
        InputError: the folder or list is missing or faulty, no case is left, or no listed file exists. A single missing
            file is left to the loader, which reports it and goes on.

    Example:
        >>> cases = find_cases(where="class=normal")  # of the sample cohort's test set
        >>> len(cases), cases[0]["case_id"], cases[0]["label"]
        (60, 'images__test_000_normal', 0)
    """
    if split not in ("train", "val", "test", "all"):
        raise InputError("the split is unknown", where="split", expected="train, val, test or all", found=split)
    source = case_source(dataset_dir, datalist, spatial_dims)
    path = source.path
    cases = _plain_scans(source.root) if path is None else _of_split(read_datalist(path, source.root), split, path)
    if where:
        cases = cases_where(cases, where, path or source.root)
    if path is not None:
        if not any(os.path.exists(case["image"]) for case in cases):
            require_files(cases, path)
        _refuse_missing_masks(cases, path)
    return same_keys(cases)


@dataclass(frozen=True)
class CaseSource:
    """Where cases come from: the list (or folder of class folders; None for plain scans), the data folder, a name."""

    path: Path | None
    root: Path
    name: str


def case_source(dataset_dir: str | Path | None, datalist: str | Path | None, spatial_dims: int) -> CaseSource:
    """Where the cases of a data folder, a list, or with neither of the sample cohort come from.

    Raises:
        InputError: there is no such folder or list, or the folder is empty.
    """
    if not dataset_dir and not datalist:
        from medad_plugins.data.sample_cohort import sample_cohort

        root = sample_cohort(spatial_dims)
        return CaseSource(find_datalist(root), root, f"sample cohort ({spatial_dims}D)")
    path = find_datalist(dataset_dir, datalist)
    root = Path(home_path(dataset_dir)) if dataset_dir else Path()
    if path is not None and path.is_file() and not (dataset_dir and root.is_dir()):
        root = path.parent
    if root.is_dir() and not any(root.iterdir()):
        raise InputError("the data folder is empty", where=root, expected=LAYOUTS)
    name = root.resolve().name
    if path is not None and path.is_file() and path.name not in LIST_NAMES:
        name = f"{name} ({path.name})"
    return CaseSource(path, root, name)


def _plain_scans(path: Path) -> list[Case]:
    """The scans below a folder that has no list, or one scan."""
    scans = find_scans(path) if path.is_dir() else [path]
    ids = make_case_ids(scans, path if path.is_dir() else path.parent)
    return [{"image": os.path.abspath(scan), "case_id": case_id} for scan, case_id in zip(scans, ids, strict=True)]


def _of_split(cases: list[Case], split: str, path: Path) -> list[Case]:
    if split == "all":
        return cases
    if not any(case.get("split") for case in cases):
        logger.info("%s has no splits: all %d cases are taken.", path, len(cases))
        return cases
    chosen = [case for case in cases if case.get("split") == split]
    if not chosen:
        found = ", ".join(sorted({case["split"] or "none" for case in cases}))
        raise InputError("the datalist has no case in this split", where=path, expected=split, found=found)
    return chosen


def cases_where(cases: list[Case], where: str, path: Path) -> list[Case]:
    """Those that meet a condition ``column=value``.

    Raises:
        InputError: it is no condition, or no case meets it.
    """
    column, equals, value = (part.strip() for part in where.partition("="))
    if not column or not equals:
        raise InputError("the condition is not understood", where="where", expected="column=value", found=where)
    if not any(column in case for case in cases):
        columns = ", ".join(sorted({key for case in cases for key in case}))
        raise InputError("the datalist lacks a column", where=path, expected=column, found=columns)
    chosen = [case for case in cases if str(case.get(column, "")) == value]
    if not chosen:
        found = f"none among {len(cases)} cases"
        raise InputError("no case meets the condition", where=path, expected=f"rows with {column}={value}", found=found)
    return chosen


def require_files(cases: Sequence[Case], path: Path) -> None:
    """Refuse cases of which a scan or mask does not exist."""
    _refuse_missing([case["image"] for case in cases], "listed scans do not exist", path)
    _refuse_missing_masks(cases, path)


def _refuse_missing_masks(cases: Sequence[Case], path: Path) -> None:
    _refuse_missing([case["mask"] for case in cases if case.get("mask")], "listed masks do not exist", path)


def _refuse_missing(files: Sequence[str], what: str, path: Path) -> None:
    missing = [file for file in files if not os.path.exists(file)]
    if missing:
        found = f"{len(missing)} of {len(files)} missing, first {', '.join(missing[:3])}"
        todo = "check the paths, which are relative to the list's folder"
        raise InputError(what, where=path, found=found, todo=todo)

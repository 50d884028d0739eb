"""Which scans a run trains on, calibrates on and is tested on."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medad_plugins.data.datalists import LIST_NAMES, Case, find_datalist, make_case_ids, read_datalist, same_keys
from medad_plugins.data.scan_files import find_scans
from medad_plugins.errors import InputError

__all__ = ["Cohort", "case_group", "find_cases", "hold_out", "labelled_validation"]

logger = logging.getLogger(__name__)

LAYOUTS = f"{', '.join(LIST_NAMES)}, or the folders train/normal and test/<class>"


class Cohort:
    """The cases of a data folder, by split: normal ones to train on, held-out normal ones, and a test set.

    Args:
        dataset_dir: a folder with a datalist or with class folders (see `read_datalist`); empty takes the built-in
            sample cohort.
        datalist: file name in ``dataset_dir`` or path; empty looks for the usual names.
        spatial_dims: 2 or 3, which of the sample cohorts.
        seed: draws the held-out normal cases where the list has none in its split val.
        validation_fraction: share of the normal training cases to hold out then, more than 0 and less than 1.
        where: ``column=value`` limits the test set to the rows of a list that have this value, e.g. ``rep=1``.
        selection: hold out a fifth of the normal training cases besides, to choose weights by.

    Attributes:
        name: the data folder's name, with the list's where it is not the usual one.
        train: normal cases to train on.
        validation: normal cases to calibrate on, never trained on.
        selection: normal cases to choose weights by, neither trained nor calibrated on; empty unless requested.
        labelled_validation: normal and abnormal cases of the list's split val, to choose an F1 threshold on as the
            survey does; empty where it has not both.
        test: all cases of the split test; empty where the list has no splits.

    Raises:
        InputError: the folder or list is missing or faulty, a listed file does not exist, there is no normal case to
            train on or to hold out, or no test case meets the condition.

    Example:
        >>> cohort = Cohort()  # the built-in sample cohort
        >>> len(cohort.train), len(cohort.validation), len(cohort.test)
        (200, 60, 120)
        >>> cohort.train[0]["case_id"], cohort.train[0]["label"]
        ('images__train_000_normal', 0)
    """

    def __init__(
        self,
        dataset_dir: str | Path | None = "",
        datalist: str | Path | None = "",
        spatial_dims: int = 2,
        seed: int = 0,
        validation_fraction: float = 0.15,
        where: str = "",
        selection: bool = False,
    ) -> None:
        source = _source(dataset_dir, datalist, spatial_dims)
        if source.path is None:
            raise InputError(
                "the data folder has no datalist",
                where=source.root,
                expected=LAYOUTS,
                todo="write a datalist.csv with the columns image, label and split",
            )
        path = source.path
        cases = read_datalist(path, source.root)
        if not any("label" in case for case in cases):
            raise InputError("the datalist has no labels", where=path, expected="a column label, 0 for normal cases")
        has_splits = any(case.get("split") for case in cases)
        by_split = {name: [case for case in cases if case.get("split") == name] for name in ("train", "val", "test")}
        if not has_splits:
            by_split["train"] = cases
        _refuse_missing_files([case for split in by_split.values() for case in split], path)

        train = _normal(by_split["train"])
        if not train:
            counts = ", ".join(f"{_count(split)} in {name}" for name, split in by_split.items() if split)
            raise InputError(
                "there is no normal case to train on",
                where=path,
                expected="rows with split train and label 0",
                found=counts or "no row with a split",
                todo="add normal scans, or use this data for inference or evaluation only",
            )
        held_out = _normal(by_split["val"])
        self._origin = "split val"
        if not held_out:
            train, held_out = hold_out(train, validation_fraction, seed)
            self._origin = f"drawn from train{_by_group(train)} with seed {seed}"
        chosen_by: list[Case] = []
        if selection:
            train, chosen_by = hold_out(train, 0.2, seed)
        self._left_out = len(by_split["train"]) - len(_normal(by_split["train"]))
        self._unused = len(by_split["val"]) - len(_normal(by_split["val"]))
        self.name = source.name
        self.train = same_keys(train)
        self.selection = same_keys(chosen_by)
        self.validation = same_keys([case | {"split": "val"} for case in held_out])
        self.labelled_validation = _of_both_classes(by_split["val"])
        self.test = same_keys(_matching(by_split["test"], where, path) if where else by_split["test"])

    def describe(self) -> str:
        """One or two lines: the data, how many cases of each kind, and where the held-out ones come from."""
        chosen_by = f"{len(self.selection)} to choose the weights by, " if self.selection else ""
        text = (
            f"{self.name}: {len(self.train)} normal cases to train on, {chosen_by}{len(self.validation)} held-out "
            f"normal cases ({self._origin}), test set of {_count(self.test)}."
        )
        if self._left_out or self._unused:
            text += (
                f"\nLeft out because training and calibration use normal cases only: {self._left_out} in train, "
                f"{self._unused} in val."
            )
        return text


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
    source = _source(dataset_dir, datalist, spatial_dims)
    path = source.path
    cases = _plain_scans(source.root) if path is None else _of_split(read_datalist(path, source.root), split, path)
    if where:
        cases = _matching(cases, where, path or source.root)
    if path is not None:
        if not any(os.path.exists(case["image"]) for case in cases):
            _refuse_missing_files(cases, path)
        _refuse_missing_masks(cases, path)
    return same_keys(cases)


def labelled_validation(dataset_dir: str | Path | None = "", datalist: str | Path | None = "") -> list[Case]:
    """The cases of a list's split val where they are of both classes, else none, as in the sample cohort."""
    if not dataset_dir and not datalist:
        return []
    source = _source(dataset_dir, datalist, 2)
    cases = [] if source.path is None else read_datalist(source.path, source.root)
    return _of_both_classes([case for case in cases if case.get("split") == "val"])


def hold_out(cases: Sequence[Case], fraction: float, seed: int) -> tuple[list[Case], list[Case]]:
    """Split cases in two, whole patients (else clusters) at a time: the same for a seed in whatever order they come.

    Groups are drawn in random order and held out as long as they fit into ``fraction`` of the cases; where not even
    the smallest fits, it is held out.

    Returns:
        the cases that stay and those held out, each in the given order, neither empty.

    Raises:
        InputError: the fraction is not between 0 and 1, or there is only one patient (or cluster or case).

    Example:
        >>> cases = [{"case_id": f"{patient}{scan}", "patient": patient} for patient in "abcd" for scan in (1, 2)]
        >>> stay, held_out = hold_out(cases, 0.25, seed=0)
        >>> len(stay), len(held_out), len({case["patient"] for case in held_out})
        (6, 2, 1)
    """
    if not 0 < fraction < 1:
        raise InputError(
            "the share to hold out is out of range",
            where="validation_fraction",
            expected="more than 0 and less than 1",
            found=fraction,
        )
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(case_group(case), []).append(case["case_id"])
    if len(groups) < 2:
        raise InputError(
            "no normal case can be held out for calibration",
            expected="normal training cases of two patients or more",
            found=f"{len(cases)} of one",
            todo="add normal cases with split val",
        )
    names = sorted(groups, key=lambda name: min(groups[name]))
    drawn = [names[index] for index in np.random.RandomState(seed).permutation(len(names))]
    target = max(1, round(fraction * len(cases)))
    held: set[str] = set()
    for name in drawn:
        # one group stays to train on, whatever the fraction
        if len(held) + len(groups[name]) <= target and len(held) + len(groups[name]) < len(cases):
            held.update(groups[name])
    if not held:
        held.update(groups[min(drawn, key=lambda name: len(groups[name]))])
    stay = [case for case in cases if case["case_id"] not in held]
    return stay, [case for case in cases if case["case_id"] in held]


def case_group(case: Case) -> str:
    """What a case must not be separated from: its patient, else its cluster of similar images, else itself."""
    for column in ("patient", "cluster", "case_id"):
        if case.get(column):
            return f"{column} {case[column]}"
    return ""


def _by_group(cases: Sequence[Case]) -> str:
    columns = [column for column in ("patient", "cluster") if any(case.get(column) for case in cases)]
    return f" by {columns[0]}" if columns else ""


@dataclass(frozen=True)
class _Source:
    """Where cases come from: the list (or folder of class folders; None for plain scans), the data folder, a name."""

    path: Path | None
    root: Path
    name: str


def _source(dataset_dir: str | Path | None, datalist: str | Path | None, spatial_dims: int) -> _Source:
    if not dataset_dir and not datalist:
        from medad_plugins.data.sample_cohort import sample_cohort

        root = sample_cohort(spatial_dims)
        return _Source(find_datalist(root), root, f"sample cohort ({spatial_dims}D)")
    path = find_datalist(dataset_dir, datalist)
    root = Path(dataset_dir).expanduser() if dataset_dir else Path()
    if path is not None and path.is_file() and not (dataset_dir and root.is_dir()):
        root = path.parent
    if root.is_dir() and not any(root.iterdir()):
        raise InputError("the data folder is empty", where=root, expected=LAYOUTS)
    name = root.resolve().name
    if path is not None and path.is_file() and path.name not in LIST_NAMES:
        name = f"{name} ({path.name})"
    return _Source(path, root, name)


def _of_both_classes(cases: Sequence[Case]) -> list[Case]:
    """The labelled cases, none where one of the classes is missing."""
    labelled = [case for case in cases if case.get("label") is not None]
    return same_keys(labelled) if {case["label"] for case in labelled} == {0, 1} else []


def _normal(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if case.get("label") == 0]


def _count(cases: Sequence[Case]) -> str:
    labels = [case.get("label") for case in cases]
    text = f"{labels.count(0)} normal + {labels.count(1)} abnormal"
    return f"{text} + {labels.count(None)} unlabelled" if None in labels else text


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


def _matching(cases: list[Case], where: str, path: Path) -> list[Case]:
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


def _refuse_missing_files(cases: Sequence[Case], path: Path) -> None:
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

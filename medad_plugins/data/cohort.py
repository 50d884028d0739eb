"""Which scans a run trains on, calibrates on and is tested on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medad_plugins.data.contradictions import warn_of_outlined_normals
from medad_plugins.data.datalists import Case, read_datalist, same_keys
from medad_plugins.data.find_cases import LAYOUTS, case_source, cases_where, require_files
from medad_plugins.data.hold_out import case_group, folds_of, hold_out
from medad_plugins.data.sample_cohort import sample_anomalies
from medad_plugins.errors import InputError

__all__ = ["CROSS_FOLDS", "Cohort", "labelled_validation"]

CALIBRATIONS = ("held_out", "cross")
CROSS_FOLDS = 5


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
        calibration: ``"held_out"``, or ``"cross"``: all normal cases are trained on, and calibrated on as well, each by
            a model that did not see it, see `medad_plugins.handlers.cross_scores`.
        fold: of a cross calibration, the one of `CROSS_FOLDS` to hold out; None holds out none.

    Attributes:
        name: the data folder's name, with the list's where it is not the usual one.
        train: normal cases to train on.
        validation: normal cases to calibrate on, never trained on; of a cross calibration, those that are trained on.
        selection: normal cases to choose weights by, neither trained nor calibrated on; empty unless requested.
        labelled_validation: normal and abnormal cases of the list's split val, to choose an F1 threshold on as the
            survey does; empty where it has not both.
        test: all cases of the split test; empty where the list has no splits.
        anomalies: abnormal cases to train on, empty but for methods that call `take_anomalies`.

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
        calibration: str = "held_out",
        fold: int | None = None,
    ) -> None:
        if calibration not in CALIBRATIONS:
            expected = " or ".join(CALIBRATIONS)
            raise InputError(
                "there is no such calibration", where="--calibration", expected=expected, found=calibration
            )
        self.calibration = calibration
        source = case_source(dataset_dir, datalist, spatial_dims)
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
        require_files([case for split in by_split.values() for case in split], path)

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
        warn_of_outlined_normals([*train, *held_out])
        self._origin = "split val"
        if calibration == "cross":
            train, held_out = _crossed(train, held_out, fold, seed)
            self._origin = f"all of them, in {CROSS_FOLDS} folds"
        elif not held_out:
            train, held_out = hold_out(train, validation_fraction, seed)
            self._origin = f"drawn from train{_by_group(train)} with seed {seed}"
        chosen_by: list[Case] = []
        if selection:
            train, chosen_by = hold_out(train, 0.2, seed)
        self._abnormal = [case for case in by_split["train"] if case.get("label") == 1]
        self._path, self._seed, self._sample = path, seed, 0 if dataset_dir or datalist else spatial_dims
        self._left_out = len(by_split["train"]) - len(_normal(by_split["train"]))
        self._unused = len(by_split["val"]) - len(_normal(by_split["val"]))
        self.name = source.name
        self.train = same_keys(train)
        self.selection = same_keys(chosen_by)
        self.validation = same_keys([case | {"split": "val"} for case in held_out])
        self.labelled_validation = _of_both_classes(by_split["val"])
        self.anomalies: list[Case] = []
        self.test = same_keys(cases_where(by_split["test"], where, path) if where else by_split["test"])

    def take_anomalies(self, most: int | None = None) -> list[Case]:
        """Abnormal cases of the split train, for methods that learn from a few; of the sample cohort, ten.

        A case of a patient whose normal scans are held out stays out: it would be known to what is calibrated.

        Args:
            most: how many are drawn by the cohort's seed; None takes all.

        Raises:
            InputError: there are fewer, or a listed file does not exist.
        """
        found = self._abnormal
        if self._sample:
            folder = sample_anomalies(self._sample)
            found = read_datalist(folder / "datalist.csv", folder)
        trained = {case["case_id"] for case in self.train}  # and of a cross calibration calibrated on
        others = [case for case in (*self.validation, *self.selection) if case["case_id"] not in trained]
        held = {case_group(case) for case in others}
        found = [case for case in found if case_group(case) not in held]
        if most is not None and not 0 <= most <= len(found):
            raise InputError(
                "there are fewer labelled anomalies to train on",
                where=self._path,
                expected=f"{most} rows with split train and label 1",
                found=len(found),
                todo="label more scans, or leave the number out to take all",
            )
        if most is not None:
            drawn = np.random.RandomState(self._seed).permutation(len(found))[:most]
            found = [found[index] for index in sorted(drawn)]
        self.anomalies = same_keys(found)
        return self.anomalies

    def describe(self) -> str:
        """One or two lines: the data, how many cases of each kind, and where the held-out ones come from."""
        chosen_by = f"{len(self.selection)} to choose the weights by, " if self.selection else ""
        calibrating = "to calibrate on" if self.calibration == "cross" else "held-out normal cases"
        text = (
            f"{self.name}: {len(self.train)} normal cases to train on, {chosen_by}{len(self.validation)} {calibrating} "
            f"({self._origin}), test set of {_count(self.test)}."
        )
        text += self._labelled()
        left_out = max(0, self._left_out - len(self.anomalies))
        if left_out or self._unused:
            purpose = "this training" if self.anomalies else "training and calibration"
            only = "those and normal cases" if self.anomalies else "normal cases"
            text += f"\nLeft out because {purpose} use{'s' * bool(self.anomalies)} {only} only: {left_out} in train, "
            text += f"{self._unused} in val."
        return text

    def _labelled(self) -> str:
        """A line of the labelled anomalies, where there are any."""
        count = len(self.anomalies)
        return f"\n{count} labelled anomalies to train on, which no calibration or test sees." if count else ""


def _crossed(train: list[Case], held_out: list[Case], fold: int | None, seed: int) -> tuple[list[Case], list[Case]]:
    """The cases to train on, and those to calibrate on, of a cross calibration."""
    every = [*train, *held_out]
    if fold is None:
        return every, every
    folds = folds_of(every, CROSS_FOLDS, seed)
    out = {case["case_id"] for case in folds[fold]} if fold < len(folds) else set()
    return [case for case in every if case["case_id"] not in out], [case for case in every if case["case_id"] in out]


def labelled_validation(dataset_dir: str | Path | None = "", datalist: str | Path | None = "") -> list[Case]:
    """The cases of a list's split val where they are of both classes, else none, as in the sample cohort."""
    if not dataset_dir and not datalist:
        return []
    source = case_source(dataset_dir, datalist, 2)
    cases = [] if source.path is None else read_datalist(source.path, source.root)
    return _of_both_classes([case for case in cases if case.get("split") == "val"])


def _by_group(cases: Sequence[Case]) -> str:
    columns = [column for column in ("patient", "cluster") if any(case.get(column) for case in cases)]
    return f" by {columns[0]}" if columns else ""


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

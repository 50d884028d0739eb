"""Labelled pictures of several classes, which need not show what is looked for: what features are to tell apart."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from medad_plugins.data.cached_dataset import cached_dataset
from medad_plugins.data.class_folders import scans_below, visible_folders
from medad_plugins.data.datalists import Case, find_datalist, read_datalist
from medad_plugins.data.drawn_beside import DrawnBesided
from medad_plugins.errors import InputError, find_input_error

__all__ = ["ReferenceSet"]

logger = logging.getLogger(__name__)

LAYOUT = "a folder for each class with its pictures, or a list with the columns image and class"


class ReferenceSet:
    """Labelled pictures of at least two classes, of any modality.

    Args:
        folder: with a folder for each class, or with a list that has a column ``class``; empty for no reference set.
        datalist: file name in the folder or path; empty looks for the usual names. Rows of split test are left out, so
            that a set may also be tested on.

    Attributes:
        names: of the classes, sorted; none without a folder.
        cases: ``image``, a path, and ``kind``, the place of its class among the names.

    Raises:
        InputError: the folder is missing, a class has no picture, a row no class, or there are fewer than two classes.
    """

    def __init__(self, folder: str | Path = "", datalist: str | Path = "") -> None:
        pictures = _pictures(folder, datalist) if folder or datalist else []
        self.names = sorted({name for _, name in pictures})
        self.cases: list[Case] = [{"image": image, "kind": self.names.index(name)} for image, name in pictures]

    def beside(self, preprocessing: Callable[..., Any]) -> DrawnBesided | None:
        """Transform that adds a drawn picture as ``reference`` and its class as ``kind``; None without pictures.

        Every class is drawn about as often, however many pictures it has. Pictures that cannot be used, of one value
        say, are left out with a warning.

        Args:
            preprocessing: of a picture, e.g. `medad_plugins.transforms.ScanPreprocessing`.

        Raises:
            InputError: none of a class can be used.
        """
        if not self.cases:
            return None
        cases = self._usable(preprocessing)
        counts = Counter(case["kind"] for case in cases)
        most = max(counts.values())
        places = [place for place, case in enumerate(cases) for _ in range(round(most / counts[case["kind"]]))]
        prepared: Any = cached_dataset(cases, preprocessing)
        return DrawnBesided(Subset(prepared, places), key=("image", "kind"), beside=("reference", "kind"))

    def _usable(self, preprocessing: Callable[..., Any]) -> list[Case]:
        sentences = [_why_not(case, preprocessing) for case in self.cases]
        usable = [case for case, sentence in zip(self.cases, sentences, strict=True) if sentence is None]
        left_out = [sentence for sentence in sentences if sentence is not None]
        if left_out:
            logger.warning("left out of the reference set: %d, e.g. %s", len(left_out), left_out[0])
        for kind, name in enumerate(self.names):
            if all(case["kind"] != kind for case in usable):
                raise InputError("no picture of a class of the reference set can be used", where=name, todo=left_out[0])
        return usable


def _why_not(case: Case, preprocessing: Callable[..., Any]) -> str | None:
    """Why a picture cannot be used, None where it can."""
    try:
        preprocessing(case)
    except Exception as error:
        found = find_input_error(error)
        if found is None:
            raise
        return str(found)
    return None


def _pictures(folder: str | Path, datalist: str | Path) -> list[tuple[str, str]]:
    """Path and class of each."""
    path = find_datalist(folder, datalist)
    pictures = _of_folders(Path(folder)) if path is None else _of_list(path, folder)
    names = sorted({name for _, name in pictures})
    if len(names) < 2:
        found = ", ".join(names) or "no class"
        where = path or folder
        raise InputError("a reference set needs two classes or more", where=where, expected=LAYOUT, found=found)
    return pictures


def _of_list(path: Path, folder: str | Path) -> list[tuple[str, str]]:
    cases = [case for case in read_datalist(path, folder or None) if case.get("split") != "test"]
    unknown = next((case["image"] for case in cases if not case.get("class")), None)
    if unknown is not None:
        todo = "fill in the column class"
        raise InputError("a picture of the reference set has no class", where=path, found=unknown, todo=todo)
    return [(case["image"], case["class"]) for case in cases]


def _of_folders(folder: Path) -> list[tuple[str, str]]:
    found = []
    for kind in visible_folders(folder):
        scans = scans_below(kind)
        if not scans:
            todo = "add pictures, or move the folder away"
            raise InputError("a class of the reference set has no picture", where=kind, expected=LAYOUT, todo=todo)
        found += [(str(scan), kind.name) for scan in scans]
    return found

"""Groups of scans that belong together, and a list that keeps each group in one split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medad_plugins.data import Case
from medad_plugins.files import home_path, output_folder, write_csv

__all__ = ["group_cases", "regroup", "write_grouped_list"]

_Ints = NDArray[np.int64]


def group_cases(count: int, first: _Ints, second: _Ints, patients: Sequence[str]) -> _Ints:
    """Number of the group of every case, from 0 in the order of the list: linked by pairs or by the same patient.

    Args:
        count: cases.
        first, second: positions of the pairs.
        patients: of every case, "" where it is not known.
    """
    seen: dict[str, int] = {}
    same = [(seen.setdefault(patient, i), i) for i, patient in enumerate(patients) if patient]
    links = np.concatenate([np.stack([first, second], 1), np.array(same, dtype=np.int64).reshape(-1, 2)])
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def regroup(cases: Sequence[Case], groups: _Ints) -> list[str]:
    """A split for every case, such that no group is in two and each split keeps about its numbers.

    Groups that are in one split stay there. Of the others, those with an abnormal case go to test where one of them is
    there, else to where most of them are; normal ones, largest first, go to the split that lacks most normal cases.
    """
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(int(group), []).append(position)
    splits = [str(case.get("split", "")) for case in cases]
    target = Counter(split for split, case in zip(splits, cases) if case.get("label") != 1)
    new = list(splits)
    filled: Counter[str] = Counter()
    torn: list[list[int]] = []
    for group in members.values():
        inside = Counter(splits[i] for i in group)
        if len(inside) == 1:
            filled.update({splits[group[0]]: len(group)} if cases[group[0]].get("label") != 1 else {})
        elif any(cases[i].get("label") == 1 for i in group):
            home = "test" if inside["test"] else inside.most_common(1)[0][0]
            filled[home] += sum(cases[i].get("label") != 1 for i in group)
            for i in group:
                new[i] = home
        else:
            torn.append(group)
    for group in sorted(torn, key=lambda group: (-len(group), group[0])):
        choices = sorted({splits[i] for i in group})
        # measured in parts of the split, so that a small one gets its share
        home = max(choices, key=lambda split: (target[split] - filled[split]) / max(target[split], 1))
        filled[home] += len(group)
        for i in group:
            new[i] = home
    return new


def write_grouped_list(path: str | Path, cases: Sequence[Case], groups: _Ints) -> Path:
    """Write the cases as a datalist with the splits of `regroup` and two more columns.

    ``cluster`` is the group's number; ``rep`` is 1 for the first case of each group and label and 0 for the others, so
    that ``--where rep=1`` evaluates every group once. Paths are relative to the list where the scans are below its
    folder, else absolute.
    """
    path = Path(home_path(path))
    folder = output_folder(path.parent).resolve()
    splits = regroup(cases, groups)
    extra = [key for key in dict.fromkeys(key for case in cases for key in case) if key not in _WRITTEN]
    seen: set[tuple[int, object]] = set()
    rows: list[list[Any]] = [["image", "label", "mask", "split", *extra, "cluster", "rep"]]
    for case, split, group in zip(cases, splits, groups):
        key = (int(group), case.get("label"))
        first = key not in seen
        seen.add(key)
        files = [_relative(str(case.get(name, "")), folder) for name in ("image", "mask")]
        others = [case.get(name, "") for name in extra]
        rows.append([files[0], case.get("label", ""), files[1], split, *others, int(group), int(first)])
    write_csv(path, rows)
    return path


_WRITTEN = ("image", "label", "mask", "split", "case_id", "cluster", "rep")


def _relative(path: str, folder: Path) -> str:
    absolute = os.path.realpath(path) if path else ""
    return os.path.relpath(absolute, folder) if absolute.startswith(f"{folder}{os.sep}") else path

"""What is in a folder of which nothing is known yet: kind of scans, normal ones to fit on, others to judge by."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medad_plugins.audit import Audit, audit_cases, read_signatures
from medad_plugins.audit.listing import read_leniently
from medad_plugins.data import Case, case_group, hold_out
from medad_plugins.data.find_cases import cases_where
from medad_plugins.errors import InputError
from medad_plugins.files import home_path
from medad_plugins.start.ranking import FEWEST_GROUPS

__all__ = ["FirstData", "read_first_data"]

logger = logging.getLogger(__name__)

_LISTS = (".csv", ".tsv", ".json")
_FEWEST = 10  # normal scans with which anything can be said
_MOST_TRAINED = 400  # normal scans that are fitted on: more cost time and change a ranking little
_HELD_OUT = 40  # normal scans to judge by, where there are enough
_SHARE = 0.2  # of the normal scans that may be held out for it
_FEWEST_OF_A_CLASS = 10  # labelled validation cases to rank by


@dataclass(frozen=True)
class FirstData:
    """A data folder as `start` takes it.

    Attributes:
        name: of the folder or list.
        audit: of all of its scans.
        spatial_dims: 2 for pictures, 3 for volumes.
        in_channels: 3 where most scans are in colour.
        edges: median pixels along the axes of a scan.
        train: normal cases to fit on.
        held_out: normal cases to calibrate and to judge on, of none of whom train has a copy or another scan.
        labelled: cases of the list's split val where it has enough of both classes, else none. Those of the split test
            are never looked at.
        notes: what was done with the data that its owner should know, a sentence each.
    """

    name: str
    audit: Audit
    spatial_dims: int
    in_channels: int
    edges: tuple[int, ...]
    train: list[Case]
    held_out: list[Case]
    labelled: list[Case] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_first_data(
    data: str, datalist: str = "", where: str = "", seed: int = 0, workers: int | None = None
) -> FirstData:
    """Read a folder or list, audit it and part it.

    Normal cases are those of label 0, or all where nothing is labelled. Those of the split val are held out; where
    there are few, others are held out of train, whole patients (else groups of copies) at a time.

    Args:
        data: a folder with a datalist, class folders or nothing but scans, or a list.
        datalist: file name in the folder, or a path.
        where: ``column=value`` limits the cases of the splits val and test, e.g. ``rep=1``.
        seed: of what is held out.
        workers: processes that read; None takes one a core.

    Raises:
        InputError: there is no such folder or list, nothing readable or too few normal scans in it, or it mixes
            pictures and volumes.
    """
    folder, listed = _place(data, datalist)
    cases = read_leniently(folder, listed)
    signatures = read_signatures(cases, workers)
    name = Path(listed).name if listed else Path(folder).resolve().name
    if not signatures.items:
        reason = signatures.unreadable[0][1]
        raise InputError("none of the scans can be read", where=data, found=f"{reason} (the first one)")
    kinds = Counter(item.thumbnail.ndim for item in signatures.items)
    if len(kinds) > 1:
        raise InputError(
            "pictures and volumes are mixed",
            where=data,
            expected="one kind",
            found=f"{kinds[2]} pictures and {kinds[3]} volumes",
            todo="put them into two folders, or list one kind in a datalist.csv",
        )
    audit = audit_cases(cases, signatures=signatures)
    dims = next(iter(kinds))
    notes: list[str] = []
    known = [{**cases[i], "_group": int(audit.groups[i])} for i in signatures.index.tolist()]
    if not any(case.get("label") is not None for case in known):
        notes.append("Nothing is labelled, so every scan is taken as normal: sick ones among them will not be found.")
        known = [{**case, "label": 0} for case in known]
    train, held_out, labelled = _part(known, where, folder, seed, notes)
    attributes = [item.attributes for item in signatures.items]
    colours = sum(float(item["channels"]) >= 3 for item in attributes)
    axes = ("width", "height", "slices")[:dims]
    edges = tuple(int(np.median([float(item[axis]) for item in attributes])) for axis in axes)
    in_channels = 3 if colours > len(attributes) / 2 and _is_coloured(train[0]) else 1
    return FirstData(name, audit, dims, in_channels, edges, train, held_out, labelled, notes)


def _place(data: str, datalist: str) -> tuple[str, str]:
    if not data:
        todo = "give a folder of scans or a list: python tools/start.py DATA"
        raise InputError("no data were given", expected="a folder or a list", todo=todo)
    path = Path(home_path(data))
    if not path.exists():
        raise InputError("the data do not exist", where=path, expected="a folder or a list", todo="check the path")
    if path.is_file() and path.suffix.lower() in _LISTS:
        return str(path.parent), str(path.resolve())
    if path.is_dir() and not any(path.iterdir()):
        raise InputError("the data folder is empty", where=path, expected="scans", todo="check the path")
    return str(path), datalist


def _part(
    cases: Sequence[Case], where: str, folder: str, seed: int, notes: list[str]
) -> tuple[list[Case], list[Case], list[Case]]:
    has_splits = any(case.get("split") for case in cases)
    splits: dict[str, list[Case]] = {"train": [], "val": []}
    for case in cases:
        split = case.get("split", "") if has_splits else "train"
        if split in splits:
            splits[split].append(case)
    if where and splits["val"]:
        splits["val"] = cases_where(splits["val"], where, Path(folder))
    train = [case for case in splits["train"] if case.get("label") == 0]
    held_out = [case for case in splits["val"] if case.get("label") == 0]
    left_out = sum(case.get("label") == 1 for case in splits["train"])
    if left_out:
        notes.append(f"{left_out} abnormal scans among those to train on are left out.")
    if len(train) + len(held_out) < _FEWEST or len(train) < 2:
        todo = "add normal scans, or list them with label 0"
        found = f"{len(train)} to fit on and {len(held_out)} held out"
        raise InputError(
            "there are too few normal scans", where=folder, expected=f"{_FEWEST} or more", found=found, todo=todo
        )
    train, held_out = _apart(_with_clusters(train + held_out, notes), len(train), seed, notes)
    labelled = _labelled(splits["val"], notes)
    return train, held_out, labelled


def _with_clusters(cases: Sequence[Case], notes: list[str]) -> list[Case]:
    """The cases with the audit's groups of copies and patients as clusters, but where one group holds far too many."""
    largest = Counter(case["_group"] for case in cases).most_common(1)[0][1]
    if largest > max(3, _SHARE * len(cases)):
        notes.append(
            f"{largest} of {len(cases)} normal scans are as alike as copies are, so copies are not kept together: look "
            "at the audit."
        )
        return [{**case, "cluster": case.get("patient") or case["case_id"], "patient": ""} for case in cases]
    return [{**case, "cluster": f"group {case['_group']}", "patient": ""} for case in cases]


def _apart(cases: list[Case], trained: int, seed: int, notes: list[str]) -> tuple[list[Case], list[Case]]:
    """Cases to fit on and held-out ones without anything in common, the latter enough to judge by."""
    train, held_out = cases[:trained], cases[trained:]
    known = {case["cluster"] for case in train}
    apart = [case for case in held_out if case["cluster"] not in known]
    if len(apart) < len(held_out):
        count = len(held_out) - len(apart)
        notes.append(
            f"{count} held-out scans are left out: of them a copy, or another scan of the patient, is in train."
        )
    count = len(train) + len(apart)
    # of few scans a larger share: so many that something can be said, if half of them are enough for it
    wanted = max(round(_SHARE * count), min(_FEWEST, max(count // 3, min(FEWEST_GROUPS, count // 2))))
    missing = min(_HELD_OUT, wanted) - len(apart)
    if missing > 0 or not apart:
        train, more = hold_out(train, min(max(missing, 1) / len(train), 0.5), seed)
        held = f"beside {len(apart)} of the split val " if apart else ""
        notes.append(f"{len(more)} normal scans are held out {held}to calibrate and to judge on.")
        apart = apart + more
    if len(train) > _MOST_TRAINED:
        chosen = sorted(np.random.RandomState(seed).permutation(len(train))[:_MOST_TRAINED].tolist())
        notes.append(
            f"{_MOST_TRAINED} of {len(train)} normal scans, drawn at random, are fitted on here, to save time."
        )
        train = [train[i] for i in chosen]
    return train, apart


def _labelled(cases: Sequence[Case], notes: list[str]) -> list[Case]:
    labels = Counter(case.get("label") for case in cases)
    if not labels[1]:
        return []
    if min(labels[0], labels[1]) < _FEWEST_OF_A_CLASS:
        notes.append(
            f"The split val has {labels[0]} normal and {labels[1]} abnormal scans, too few to rank by them: "
            f"{_FEWEST_OF_A_CLASS} of each are needed."
        )
        return []
    return [case for case in cases if case.get("label") in (0, 1)]


def _is_coloured(case: Case) -> bool:
    from medad_plugins.data import read_scan

    scan = read_scan(Path(str(case["image"])))
    return (
        scan.has_channels and scan.array.shape[-1] >= 3 and not bool((scan.array[..., :3] == scan.array[..., :1]).all())
    )


def judged_by(held_out: Sequence[Case], most: int) -> list[Case]:
    """At most so many of the held-out cases, of as many groups as there are."""
    turns: Counter[str] = Counter()
    ordered = []
    for place, case in enumerate(held_out):
        group = case_group(case)
        ordered.append((turns[group], place))
        turns[group] += 1
    return [held_out[place] for _, place in sorted(sorted(ordered)[:most], key=lambda item: item[1])]

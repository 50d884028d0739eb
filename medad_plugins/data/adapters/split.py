"""Drawing a split, whole patients at a time."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medad_plugins.data.adapters.published_scan import PublishedScan

__all__ = ["Sizes", "draw_split", "separate_patients"]

logger = logging.getLogger(__name__)

# how many scans of a class each split gets: {("train", "normal"): 1000, ("test", "normal"): 500, ...}
Sizes = Mapping[tuple[str, str], int]


def draw_split(scans: Sequence[PublishedScan], sizes: Sizes, seed: int) -> list[PublishedScan]:
    """Draw scans into splits, the same for a seed in whatever order the scans come.

    Patients come in random order, each goes whole into the first split that still has room for all its scans. Scans
    that fit nowhere, and classes that ``sizes`` does not name, are left out. Where a class has too few scans for its
    sizes, these shrink in proportion.
    """
    scans = sorted(scans, key=lambda scan: (scan.kind, scan.image.name, str(scan.image)))
    room = _available(scans, sizes)
    groups: dict[str, list[PublishedScan]] = {}
    for number, scan in enumerate(scans):
        if any(kind == scan.kind for _, kind in sizes):
            groups.setdefault(scan.patient or f"scan {number}", []).append(scan)
    names = sorted(groups)
    splits = list(dict.fromkeys(split for split, _ in sizes))
    drawn: list[PublishedScan] = []
    for index in np.random.RandomState(seed).permutation(len(names)):
        group = groups[names[index]]
        need = Counter(scan.kind for scan in group)
        for split in splits:
            if all(room.get((split, kind), 0) >= count for kind, count in need.items()):
                room.update({(split, kind): room[split, kind] - count for kind, count in need.items()})
                drawn += [replace(scan, split=split) for scan in group]
                break
    if any(room.values()):
        open_places = ", ".join(f"{split} {kind} {count}" for (split, kind), count in room.items() if count)
        logger.warning("Whole patients do not fill the split exactly: %s missing.", open_places)
    order = {scan: number for number, scan in enumerate(scans)}
    return sorted(drawn, key=lambda scan: order[replace(scan, split="")])


def separate_patients(scans: Sequence[PublishedScan]) -> list[PublishedScan]:
    """The scans of a published split; where it has patients in several splits, the patients as clusters.

    A datalist refuses patients in two splits and warns of clusters in two: a published split stays as it is, and what
    is wrong with it is logged.
    """
    splits: dict[str, set[str]] = {}
    for scan in scans:
        if scan.patient:
            splits.setdefault(scan.patient, set()).add(scan.split)
    shared = {patient for patient, names in splits.items() if len(names) > 1}
    if not shared:
        return list(scans)
    count = sum(scan.patient in shared and scan.split == "test" for scan in scans)
    logger.warning(
        "The published split is kept, but %d of %d patients are in several of its splits (%d test scans): results on "
        "it are too good. The patients stand in the column cluster.",
        len(shared),
        len(splits),
        count,
    )
    return [replace(scan, patient="", cluster=scan.patient or scan.cluster) for scan in scans]


def _available(scans: Sequence[PublishedScan], sizes: Sizes) -> dict[tuple[str, str], int]:
    """The sizes, less where there are fewer scans."""
    there, wanted = Counter(scan.kind for scan in scans), Counter[str]()
    for (_, kind), size in sizes.items():
        wanted[kind] += size
    short = {kind for kind in wanted if there[kind] < wanted[kind]}
    for kind in sorted(short):
        logger.warning("%d scans of class %s where the split takes %d: it shrinks.", there[kind], kind, wanted[kind])
    return {
        (split, kind): size * there[kind] // wanted[kind] if kind in short else size
        for (split, kind), size in sizes.items()
    }

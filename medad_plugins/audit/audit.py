"""The audit of a data set: what is in it, what is in it twice, and what gives the label away."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medad_plugins.audit.copy_shares import CopyShare, Pair, copy_shares, part_of
from medad_plugins.audit.groups import group_cases
from medad_plugins.audit.near_copies import COPY_SIMILARITY, CopyPairs, find_copies
from medad_plugins.audit.orientations import orientations
from medad_plugins.audit.shortcuts import Shortcut, find_shortcuts
from medad_plugins.audit.signatures import Signatures, read_signatures
from medad_plugins.data import Case

__all__ = ["Audit", "CopyShare", "Pair", "audit_cases"]

logger = logging.getLogger(__name__)

_FEWEST_FOR_SHORTCUTS = 10


@dataclass(frozen=True)
class Audit:
    """What `audit_cases` found.

    Attributes:
        cases: the cases, all of them.
        counts: number of cases by split and label.
        signatures: what was read of them.
        repeated_files: positions of rows whose file is in the list before.
        repeated_across: those of them that are in another split than the row before.
        shared_patients: patients that are in two splits or more.
        pairs: copies, the most similar first; exact duplicates as a chain, not all against all.
        shares: how many cases of each part of the data (split and label) have copies in each part.
        groups: ``(n,)`` number of the group (copies, same patient) of every case.
        threshold: similarity from which on a pair is a near copy, the highest of those used for pictures and volumes.
        floor: similarity that no pair of different scans is likely to reach.
        shortcuts: attributes that predict the label, the best first.
        shortcuts_in: the part of the data they were tested on.
        seconds: for all of it, reading included.
    """

    cases: Sequence[Case]
    counts: dict[tuple[str, str], int]
    signatures: Signatures
    repeated_files: list[int]
    repeated_across: list[int]
    shared_patients: int
    pairs: list[Pair]
    shares: list[CopyShare]
    groups: NDArray[np.int64]
    threshold: float
    floor: float
    shortcuts: list[Shortcut]
    shortcuts_in: str
    seconds: float

    def part(self, position: int) -> tuple[str, str]:
        """Split and label of a case."""
        return part_of(self.cases[position])

    def share(self, part: tuple[str, str], other: tuple[str, str]) -> CopyShare | None:
        """The entry of ``shares`` for two parts, e.g. ``("test", "normal")`` and ``("train", "normal")``."""
        return next((share for share in self.shares if (share.part, share.other) == (part, other)), None)


def audit_cases(
    cases: Sequence[Case], *, signatures: Signatures | None = None, workers: int | None = None, seed: int = 0
) -> Audit:
    """Audit the cases of a list.

    Args:
        cases: with ``image`` and, where known, ``label``, ``split`` and ``patient``, as `find_cases` gives them.
        signatures: of these very cases, where they were read before.
        workers: processes that read; None takes one a core.
        seed: of the sampled pairs and the folds.
    """
    start = time.monotonic()
    given = signatures
    if signatures is None:
        signatures = read_signatures(cases, workers)
    exact = _exact_pairs(signatures)
    near, floor, threshold = _near_pairs(cases, signatures, seed)
    pairs = sorted(exact + near, key=lambda pair: (not pair.exact, -pair.similarity, pair.first, pair.second))
    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    groups = group_cases(len(cases), ends[:, 0], ends[:, 1], [str(case.get("patient", "")) for case in cases])
    repeated, across = _repeated_files(cases)
    shortcuts, where = _shortcuts(cases, signatures, groups, seed)
    return Audit(
        cases=cases,
        counts=dict(sorted(Counter(part_of(case) for case in cases).items())),
        signatures=signatures,
        repeated_files=repeated,
        repeated_across=across,
        shared_patients=_shared_patients(cases),
        pairs=pairs,
        shares=copy_shares(cases, signatures, pairs),
        groups=groups,
        threshold=threshold,
        floor=floor,
        shortcuts=shortcuts,
        shortcuts_in=where,
        seconds=time.monotonic() - start + (given.seconds if given else 0),
    )


def _exact_pairs(signatures: Signatures) -> list[Pair]:
    """Every scan with the first one of equal pixels."""
    first: dict[bytes, int] = {}
    positions = zip(signatures.index.tolist(), signatures.items)
    pairs = [(first.setdefault(item.digest, position), position) for position, item in positions]
    return [Pair(a, b, 1.0, "as it is", True) for a, b in pairs if a != b]


def _near_pairs(cases: Sequence[Case], signatures: Signatures, seed: int) -> tuple[list[Pair], float, float]:
    """Near copies among pictures and among volumes, with the higher floor and threshold of the two."""
    pairs: list[Pair] = []
    floor, threshold = 0.0, COPY_SIMILARITY
    for dims in (2, 3):
        # of equal scans in one part of the data one stands for all
        first: dict[tuple[bytes, tuple[str, str]], int] = {}
        for i, item in enumerate(signatures.items):
            if item.thumbnail.ndim == dims and item.detail.any():
                first.setdefault((item.digest, part_of(cases[signatures.index[i]])), i)
        chosen = np.array(list(first.values()), dtype=np.int64)
        if len(chosen) < 2:
            continue
        items = [signatures.items[i] for i in chosen]
        parts = sorted({part for _, part in first})
        numbers = np.array([parts.index(part) for _, part in first], dtype=np.int64)
        detail, coarse = (np.stack([getattr(item, name) for item in items]) for name in ("detail", "coarse"))
        found = find_copies(detail, coarse, numbers, seed)
        pairs += _as_pairs(found, signatures.index[chosen], [item.digest for item in items], dims)
        floor, threshold = max(floor, found.floor), max(threshold, found.threshold)
    return pairs, floor, threshold


def _as_pairs(found: CopyPairs, positions: NDArray[np.int64], digests: list[bytes], dims: int) -> list[Pair]:
    names = [way.name for way in orientations(dims)]
    return [
        Pair(int(positions[a]), int(positions[b]), float(similarity), names[way], False)
        for a, b, similarity, way in zip(found.first, found.second, found.similarity, found.orientation)
        if digests[a] != digests[b] or way != 0
    ]


def _repeated_files(cases: Sequence[Case]) -> tuple[list[int], list[int]]:
    first: dict[str, int] = {}
    firsts = [first.setdefault(os.path.realpath(str(case["image"])), i) for i, case in enumerate(cases)]
    repeated = [i for i, j in enumerate(firsts) if i != j]
    return repeated, [i for i in repeated if cases[i].get("split") != cases[firsts[i]].get("split")]


def _shared_patients(cases: Sequence[Case]) -> int:
    splits: dict[str, set[str]] = {}
    for case in cases:
        if case.get("patient") and case.get("split"):
            splits.setdefault(str(case["patient"]), set()).add(str(case["split"]))
    return sum(len(names) > 1 for names in splits.values())


def _shortcuts(
    cases: Sequence[Case], signatures: Signatures, groups: NDArray[np.int64], seed: int
) -> tuple[list[Shortcut], str]:
    """Shortcuts of the split test where it has both classes, else of all cases; one case a group and label."""
    for split, where in (("test", "split test"), ("", "all splits")):
        first: dict[tuple[int, int], int] = {}
        for i, position in enumerate(signatures.index):
            case = cases[position]
            if case.get("label") is not None and (not split or case.get("split") == split):
                first.setdefault((int(groups[position]), case["label"]), i)
        chosen = np.array([label for _, label in first], dtype=np.int64)
        if np.bincount(chosen, minlength=2).min() >= _FEWEST_FOR_SHORTCUTS:
            attributes = [signatures.items[i].attributes for i in first.values()]
            text = f"{where}, one case of each group of copies: {len(chosen)} of {len(signatures.items)}"
            return find_shortcuts(attributes, chosen, seed), text
    return [], "nothing: too few cases of a class"

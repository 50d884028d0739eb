"""How many cases of one part of the data have a copy in another part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from medad_plugins.audit.signatures import Signatures
from medad_plugins.data import Case

__all__ = ["CopyShare", "Pair", "Part", "copy_shares", "part_of"]

# Split and label, e.g. ("test", "normal").
Part = tuple[str, str]

_LABELS = {0: "normal", 1: "abnormal", None: "unlabelled"}


@dataclass(frozen=True)
class Pair:
    """Two scans, by position, of which one is a copy of the other.

    Attributes:
        first, second: positions in the list.
        similarity: 1 for equal pixels, else the aligned similarity of their local contrast.
        orientation: how the second must be turned to look like the first, ``"as it is"`` where not at all.
        exact: whether their decoded pixels are equal.
    """

    first: int
    second: int
    similarity: float
    orientation: str
    exact: bool

    @property
    def turned(self) -> bool:
        """Whether it is a mirrored or rotated copy."""
        return self.orientation != "as it is"


@dataclass(frozen=True)
class CopyShare:
    """How many cases of one part of the data have a copy in another (or elsewhere in the same).

    Attributes:
        part: split and label.
        other: where the copies are.
        cases: of ``part`` that could be read.
        exact: how many of them have an exact duplicate there.
        upright: how many have an exact or near copy that is not mirrored or turned.
        any_way: how many have any copy.
    """

    part: Part
    other: Part
    cases: int
    exact: int
    upright: int
    any_way: int


def part_of(case: Case) -> Part:
    """Split and label of a case in words."""
    return str(case.get("split") or "no split"), _LABELS[case.get("label")]


def copy_shares(cases: Sequence[Case], signatures: Signatures, pairs: Sequence[Pair]) -> list[CopyShare]:
    """Count for every part and every other one; what holds of a scan holds of all scans of equal pixels."""
    positions = signatures.index.tolist()
    digest = {position: item.digest for position, item in zip(positions, signatures.items)}
    equal: dict[bytes, list[int]] = {}
    for position in positions:
        equal.setdefault(digest[position], []).append(position)
    exact: set[tuple[int, Part]] = set()
    upright: set[tuple[int, Part]] = set()
    any_way: set[tuple[int, Part]] = set()
    for members in equal.values():
        exact.update((i, part_of(cases[j])) for i, j in product(members, members) if i != j)
    for pair in pairs:
        if not pair.exact:
            ends = equal[digest[pair.first]], equal[digest[pair.second]]
            parts = [{part_of(cases[i]) for i in members} for members in ends]
            found = {*product(ends[0], parts[1]), *product(ends[1], parts[0])}
            any_way |= found
            upright |= set() if pair.turned else found
    upright |= exact
    any_way |= upright
    read = Counter(part_of(cases[position]) for position in positions)
    counts = [Counter((part_of(cases[i]), other) for i, other in found) for found in (exact, upright, any_way)]
    return [
        CopyShare(part, other, read[part], *(count[(part, other)] for count in counts))
        for part, other in product(sorted(read), sorted(read))
    ]

"""What a data set's files and tables say of a scan, and how many scans its publication says there are."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medad_plugins.errors import InputError

__all__ = ["Convert", "Edition", "Published", "PublishedScan", "check_counts", "count_scans", "present_scans"]

logger = logging.getLogger(__name__)

PARTIAL = "or go on with what is there by --allow_partial true"


@dataclass(frozen=True)
class PublishedScan:
    """A scan of a data set.

    Attributes:
        image: the file that the datalist will name.
        kind: its class, as the datalist will name it.
        label: 0 normal, 1 abnormal.
        split: the published split (train, val or test); empty where the split is to be drawn.
        mask: the lesion's segmentation, if there is a file of it.
        patient: who or what must stay in one split: patient or whole slide; empty where unknown.
        cluster: scans known to look alike, e.g. pictures of one skin lesion; empty where unknown.
        source: the file it is made from, where ``image`` is yet to be written.
    """

    image: Path
    kind: str
    label: int
    split: str = ""
    mask: Path | None = None
    patient: str = ""
    cluster: str = ""
    source: Path | None = None


# Writes what a scan of the final list still lacks (its mask, or the image itself) and returns the scan as it then is.
Convert = Callable[[PublishedScan], PublishedScan]


@dataclass(frozen=True)
class Published:
    """The scans of a data set; ``counts`` to check instead of those of the scans; ``convert`` for those in the list."""

    scans: Sequence[PublishedScan]
    counts: Mapping[str, int] | None = None
    convert: Convert | None = None


@dataclass(frozen=True)
class Edition:
    """A version of the data set and how many scans it has, by the keys of `count_scans`."""

    name: str
    counts: Mapping[str, int]


def count_scans(scans: Sequence[PublishedScan]) -> Mapping[str, int]:
    """Scans by ``class`` or, where the split is published, by ``split/class``."""
    return Counter(f"{scan.split}/{scan.kind}" if scan.split else scan.kind for scan in scans)


def present_scans(scans: Sequence[PublishedScan], allow_partial: bool) -> list[PublishedScan]:
    """The scans whose files exist.

    Raises:
        InputError: some do not and ``allow_partial`` is false, or none does.
    """
    present = [scan for scan in scans if os.path.exists(scan.source or scan.image)]
    if len(present) == len(scans):
        return present
    missing = [scan.source or scan.image for scan in scans if not os.path.exists(scan.source or scan.image)]
    found = f"{len(missing)} of {len(scans)} missing, first {', '.join(path.name for path in missing[:3])}"
    if not present or not allow_partial:
        todo = "unzip or download the rest"
        todo += f", {PARTIAL}" if present else ""
        raise InputError("listed scans are not there", where=missing[0].parent, found=found, todo=todo)
    logger.warning("%s: %s. They are left out.", missing[0].parent, found)
    return present


def check_counts(found: Mapping[str, int], editions: Sequence[Edition], where: Path, allow_partial: bool) -> str:
    """Compare with the published counts.

    Returns:
        the edition that has them, or a remark that none has.

    Raises:
        InputError: none has, and ``allow_partial`` is false.
    """

    def differing(edition: Edition) -> list[str]:
        return [key for key in {**edition.counts, **found} if edition.counts.get(key, 0) != found.get(key, 0)]

    for edition in editions:
        if not differing(edition):
            return edition.name
    nearest = min(editions, key=lambda e: sum(abs(e.counts.get(k, 0) - found.get(k, 0)) for k in {**e.counts, **found}))
    keys = differing(nearest)
    expected = ", ".join(f"{key} {nearest.counts.get(key, 0)}" for key in keys)
    there = ", ".join(f"{key} {found.get(key, 0)}" for key in keys)
    if allow_partial:
        logger.warning(
            "%s: the counts are NOT the published ones of %s: expected %s, found %s.",
            where,
            nearest.name,
            expected,
            there,
        )
        return f"counts differ from {nearest.name}"
    raise InputError(
        f"the counts are not the published ones of {nearest.name}",
        where=where,
        expected=expected,
        found=there,
        todo=f"download and unzip it again, {PARTIAL}",
    )

"""From a data set as published to a folder that every bundle reads: the steps all data sets share."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medad_plugins import __version__
from medad_plugins.data.adapters.published_scan import (
    Edition,
    Published,
    PublishedScan,
    check_counts,
    count_scans,
    present_scans,
)
from medad_plugins.data.adapters.split import Sizes, draw_split, separate_patients
from medad_plugins.data.datalists import read_datalist
from medad_plugins.errors import InputError
from medad_plugins.files import home_path, output_folder, write_csv, write_json

__all__ = ["DatasetAdapter", "Request"]

logger = logging.getLogger(__name__)

LIST_NAME = "datalist.csv"
RECORD_NAME = "prepared.json"
SECONDS_BETWEEN_LINES = 10


@dataclass(frozen=True)
class Request:
    """The user's request: where the data set is, where the list goes, the seed, and the data set's own options."""

    source: Path
    output: Path
    seed: int = 0
    allow_partial: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str, default: int) -> int:
        """An option that is a whole number above 0.

        Raises:
            InputError: it is not.
        """
        value = self.options.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError("an option is out of range", where=name, expected="a whole number above 0", found=value)
        return value


@dataclass(frozen=True)
class DatasetAdapter:
    """A data set that can be prepared.

    Attributes:
        name: what the user calls it.
        title: its full name.
        download: what to download and from where, in words.
        licence: the terms, and whether they were seen or recalled.
        read: finds its scans.
        editions: the published counts, one set for each version that is accepted.
        sizes: the split to draw; empty keeps the published one.
        options: names of its own options, each with a description.
        remark: what to know before a figure on it is quoted.
        spatial_dims: 2 pictures, 3 volumes.
    """

    name: str
    title: str
    download: str
    licence: str
    read: Callable[[Request], Published]
    editions: tuple[Edition, ...] = ()
    sizes: Sizes = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    spatial_dims: int = 2

    def prepare(
        self, source: str | Path, output: str | Path, seed: int = 0, allow_partial: bool = False, **options: Any
    ) -> Path:
        """Write ``datalist.csv`` (and what the scans lack: masks, or images out of an archive) and ``prepared.json``.

        Args:
            source: the data set as published; scans stay there.
            output: the new folder; it may exist.
            seed: draws the split.
            allow_partial: go on where files are missing or counts differ from the published ones.
            options: the data set's own.

        Returns:
            the list, which `Cohort` and `find_cases` read.

        Raises:
            InputError: an option is unknown, the source is not laid out as published, or it is not complete.
        """
        unknown = [name for name in options if name not in self.options]
        if unknown:
            expected = ", ".join(self.options) or "no options of its own"
            raise InputError("the data set has no such option", where=self.name, expected=expected, found=unknown[0])
        request = Request(Path(home_path(source)), Path(home_path(output)), seed, allow_partial, options)
        published = self.read(request)
        # missing files are reported as such, before counts that only follow from them
        scans = present_scans(published.scans, allow_partial)
        counted = published.counts if published.counts is not None else count_scans(scans)
        edition = check_counts(counted, self.editions, request.source, allow_partial) if self.editions else "any"
        scans = draw_split(scans, self.sizes, seed) if self.sizes else [scan for scan in scans if scan.split]
        scans = separate_patients(scans)
        folder = output_folder(request.output)
        if published.convert is not None:
            scans = _converted(scans, published.convert)
        path = folder / LIST_NAME
        _write_list(scans, path)
        read_datalist(path, folder)
        counts = Counter(f"{scan.split}/{scan.kind}" for scan in scans)
        record = {
            "dataset": self.name,
            "edition": edition,
            "licence": self.licence,
            "remark": self.remark,
            "seed": seed,
            "options": {name: str(value) for name, value in options.items()},
            "counts": dict(sorted(counts.items())),
            "medad_version": __version__,
        }
        write_json(folder / RECORD_NAME, record)
        masked = sum(scan.mask is not None for scan in scans)
        text = ", ".join(f"{key} {count}" for key, count in sorted(counts.items()))
        logger.info("%s (%s): %s; %d masks. %s", self.title, edition, text, masked, path)
        return path


def _converted(
    scans: Sequence[PublishedScan], convert: Callable[[PublishedScan], PublishedScan]
) -> list[PublishedScan]:
    done = []
    logged = time.monotonic()
    for scan in scans:
        done.append(convert(scan))
        if time.monotonic() - logged > SECONDS_BETWEEN_LINES:
            logged = time.monotonic()
            logger.info("%d of %d scans written.", len(done), len(scans))
    return done


def _write_list(scans: Sequence[PublishedScan], path: Path) -> None:
    """The list; files below its folder by their relative path, others by their absolute one."""

    def spell(file: Path | None) -> str:
        if file is None:
            return ""
        absolute, folder = os.path.abspath(file), os.path.abspath(path.parent)
        return os.path.relpath(absolute, folder) if absolute.startswith(folder + os.sep) else absolute

    rows = [
        {
            "image": spell(scan.image),
            "label": str(scan.label),
            "mask": spell(scan.mask),
            "split": scan.split,
            "class": scan.kind,
            "patient": scan.patient,
            "cluster": scan.cluster,
        }
        for scan in scans
    ]
    # image, label, mask, split and class always; the others where something is known
    columns = [name for number, name in enumerate(rows[0] if rows else {}) if number < 5 or any(r[name] for r in rows)]
    write_csv(path, [columns, *([row[column] for column in columns] for row in rows)], end="\n")

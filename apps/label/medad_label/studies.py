"""What of a folder of studies the server offers, and which scan it offers next."""

from __future__ import annotations

import fnmatch
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from medad_plugins.data.scan_files import read_scan
from medad_plugins.errors import InputError

__all__ = ["ReadableFirst", "say_what_is_not_offered"]

logger = logging.getLogger(__name__)

_OWN = ("datastore_v2.json", "datastore_v2.json.bak")


def say_what_is_not_offered(studies: str | Path, patterns: Sequence[str]) -> str:
    """Log, and return, how many files of which kinds a local datastore passes over; empty where there are none.

    MONAI Label takes files of the studies' folder itself, by suffixes in lower case; it does not look into folders.

    Args:
        studies: the folder.
        patterns: of file names that are taken.
    """
    root = Path(studies)
    if not root.is_dir():
        return ""
    left_out: Counter[str] = Counter()
    for parent, names, files in os.walk(root):
        is_root = Path(parent) == root
        names[:] = [name for name in names if not name.startswith(".") and not (is_root and name == "labels")]
        for name in files:
            if name.startswith(".") or name in _OWN:
                continue
            if not is_root:
                left_out["in folders, such as DICOM series"] += 1
            elif not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                left_out["".join(Path(name).suffixes[-2:]) or "without suffix"] += 1
    if not left_out:
        return ""
    counts = ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
    sentence = (
        f"{studies}: not offered to viewers: {counts}; offered are {', '.join(patterns)} in the folder itself. "
        "Send other scans with the request, or a DICOM series as a session."
    )
    logger.warning("%s", sentence)
    return sentence


class ReadableFirst(Strategy):
    """Another strategy's choice, but never a scan that cannot be read: that one is named in the log and passed over.

    Args:
        strategy: makes the choice.
    """

    def __init__(self, strategy: Strategy) -> None:
        super().__init__(strategy.description)
        self.strategy = strategy

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        broken: set[str] = set()
        while True:
            chosen: dict[str, Any] | None = self.strategy(request, _Without(datastore, broken))
            if not chosen:
                return None
            try:
                read_scan(Path(datastore.get_image_uri(chosen["id"])))
            except InputError as error:
                logger.warning("%s is not offered: %s", chosen["id"], error)
                broken.add(chosen["id"])
                continue
            return chosen


class _Without:
    """A datastore whose unlabelled images lack some."""

    def __init__(self, datastore: Datastore, ids: set[str]) -> None:
        self._datastore, self._ids = datastore, ids

    def get_unlabeled_images(self, *args: Any) -> list[str]:
        return [image for image in self._datastore.get_unlabeled_images(*args) if image not in self._ids]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._datastore, name)

"""What a search for scans left out, and the line that says so."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["LeftOut"]

logger = logging.getLogger(__name__)

# Files that lie beside scans and are none: documents, lists, settings, and the second file of a scan in two.
_DOCUMENTS = {
    *(".txt", ".md", ".rst", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm", ".csv", ".tsv", ".xls", ".xlsx"),
    *(".ods", ".json", ".yaml", ".yml", ".xml", ".ini", ".cfg", ".log", ".py", ".sh", ".bat", ".exe", ".inf", ".ipynb"),
    *(".pt", ".pth", ".bval", ".bvec", ".db", ".lnk", ".url", ".sha256", ".md5", ".license"),
}
_NAMED = 5  # files of each kind that are named; the others are counted


class LeftOut:
    """Files and folders that a search found and did not take.

    Attributes:
        folder: where the search began.
        unread: files of formats that are not read.
        empty: files without a byte.
        forbidden: files and folders that may not be read.
        hidden: hidden files with a scan's suffix, hidden folders.
        documents: files that nobody takes for scans.
        labels: folders in which a MONAI Label server keeps masks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unread: list[Path] = []
        self.empty: list[Path] = []
        self.forbidden: list[Path] = []
        self.hidden: list[Path] = []
        self.documents: list[Path] = []
        self.labels: list[Path] = []

    def add_file(self, path: Path) -> None:
        """A file that is no scan by its name or content; why is found out here."""
        try:
            with open(path, "rb") as file:
                is_empty = not file.read(1)
        except OSError:
            self.forbidden.append(path)
            return
        kind = path.suffix.lower()
        if kind in _DOCUMENTS or path.name.upper() in ("DICOMDIR", "README", "LICENSE", "CHANGES"):
            self.documents.append(path)
        else:
            (self.empty if is_empty else self.unread).append(path)

    def add_folder(self, error: OSError) -> None:
        """A folder that could not be listed."""
        self.forbidden.append(Path(str(error.filename)))

    def __str__(self) -> str:
        kinds = (
            (self.unread, "of a format that is not read"),
            (self.empty, "empty"),
            (self.forbidden, "may not be read"),
            (self.hidden, "hidden"),
            (self.documents, "no image"),
            (self.labels, "MONAI Label's masks"),
        )
        return "; ".join(f"{len(paths)} {what} ({self._names(paths)})" for paths, what in kinds if paths)

    def _names(self, paths: Sequence[Path]) -> str:
        names = [os.path.relpath(path, self.folder) for path in sorted(paths)[:_NAMED]]
        more = len(paths) - len(names)
        return ", ".join(names) + (f" and {more} more" if more else "")

    def report(self) -> None:
        """Log one line, a warning where scans may be among them."""
        if text := str(self):
            doubtful = self.unread or self.empty or self.forbidden or self.hidden
            logger.log(logging.WARNING if doubtful else logging.INFO, "left out below %s: %s.", self.folder, text)

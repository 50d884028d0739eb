"""What of an archive is done: one small file per case, which makes a run resumable and a case's result unique."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medad_plugins.data import Case
from medad_plugins.errors import InputError
from medad_plugins.files import append_text, output_folder, write_json

__all__ = ["CaseFiles"]

_SETTINGS = "archive.json"


class CaseFiles:
    """The finished cases below an output folder, in ``cases/<case_id>.json``, for any number of processes.

    A file stands for a case whose other outputs (map, mask, overlay) are complete. It is written atomically and says
    the same whoever writes it, so a case that is computed twice is there once. Cases that could not be read have a file
    too, with the reason, and are tried again by the next run.

    Args:
        output_dir: folder that all processes see.

    Raises:
        InputError: it cannot be written.
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)
        self.folder = output_folder(self.output_dir / "cases")

    def agree_on(self, settings: Mapping[str, Any]) -> None:
        """Let this folder be for these settings (plain values) only.

        Raises:
            InputError: it holds results of others.
        """
        path = self.output_dir / _SETTINGS
        if not path.is_file():
            write_json(path, dict(settings))
            return
        try:
            found = dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            todo = "give another --output_dir, or remove the file"
            raise InputError("the settings of an earlier run cannot be read", where=path, todo=todo) from error
        plain = json.loads(json.dumps(dict(settings)))
        # what an older run does not say of its data is not compared
        names = (plain.keys() | found.keys()) - ({"dataset_dir", "datalist"} - found.keys())
        differing = sorted(name for name in names if plain.get(name) != found.get(name))
        if differing:
            raise InputError(
                "the output folder holds results of other settings",
                where=path,
                expected=", ".join(f"{name} {found.get(name)}" for name in differing),
                found=", ".join(f"{name} {plain.get(name)}" for name in differing),
                todo="go on with the settings it was started with, or give another --output_dir",
            )

    def write(self, case: Case, row: Mapping[str, Any]) -> None:
        """Note that a case is finished, with its row of the results table."""
        write_json(self._path(case), {"image": case["image"], "row": dict(row)})

    def read(self, case: Case) -> dict[str, Any] | None:
        """A finished case's row; None where it is not finished or the name now stands for another scan."""
        try:
            content = json.loads(self._path(case).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None  # not finished, or damaged: computed again
        row: dict[str, Any] = content["row"]
        return row if content["image"] == case["image"] else None

    def is_done(self, case: Case) -> bool:
        """Whether a case has a result and need not be computed again."""
        row = self.read(case)
        return row is not None and row["error"] is None

    def begin(self, case: Case) -> int:
        """Count one more attempt at a case, on the disk, for an attempt may end the process.

        Returns:
            how many there are with this one.
        """
        path = self._attempts(case)
        append_text(path, ".")
        return path.stat().st_size

    def attempts(self, case: Case) -> int:
        """How often a case was begun without an end."""
        path = self._attempts(case)
        return path.stat().st_size if path.is_file() else 0

    def forget_attempts(self, cases: Iterable[Case]) -> None:
        """What is begun counts anew."""
        for case in cases:
            self._attempts(case).unlink(missing_ok=True)

    def _path(self, case: Case) -> Path:
        return self.folder / f"{case['case_id']}.json"

    def _attempts(self, case: Case) -> Path:
        return self.folder / f".{case['case_id']}.attempts"

"""Writing results so that a file is either complete or not there."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medad_plugins.errors import InputError

__all__ = ["atomic_path", "output_folder", "write_json"]

# The faults of a file system that a user can do something about; any other OSError is raised as it is.
_UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EEXIST, errno.ENOTDIR}


def _unwritable(folder: Path, error: OSError) -> InputError:
    reason = error.strerror or str(error)
    todo = "give a folder that can be written, with enough free space, as --output_dir"
    return InputError("the output folder cannot be written", where=folder, found=reason, todo=todo)


def output_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, created with its parents where missing.

    Raises:
        InputError: it cannot be created or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` (same folder, same suffix, hidden) that replaces it when the block succeeds.

    When the block fails, the temporary file is removed and what stood at ``path`` before stays.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    path = Path(path)
    # A plain name instead of tempfile: its 0600 mode would hide the result from everybody but its writer.
    temporary = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in _UNWRITABLE:
            raise _unwritable(path.parent, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused (ValueError), use None."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

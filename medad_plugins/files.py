"""Files that are either complete or not there, and reading tensors without running code."""

from __future__ import annotations

import errno
import json
import os
import pickle
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from medad_plugins.errors import InputError

__all__ = ["atomic_path", "output_folder", "read_torch", "write_json"]

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
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


def read_torch(path: str | os.PathLike[str], what: str, todo: str) -> Any:
    """What ``torch.save`` wrote, tensors and plain values, on the CPU; code in the file is never run.

    Args:
        path: the file.
        what: what the file is to the user, e.g. ``"model file"``.
        todo: what to do about a file with code in it.

    Raises:
        InputError: the file is truncated, foreign or not to be opened, or there is code in it.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes provoke whatever they happen to mean to the unpickler
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            text = f"the {what} holds more than tensors and plain values, which could run code, and was not loaded"
            raise InputError(text, where=path, todo=todo) from error
        reason = error.strerror if isinstance(error, OSError) else None
        raise InputError(
            f"the {what} cannot be read",
            where=path,
            found=reason or "a truncated or foreign file",
            todo="copy or make it again",
        ) from error


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused (ValueError), use None."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

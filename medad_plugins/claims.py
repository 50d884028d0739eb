"""One run at a time for an output folder: what two would write there at once would be neither's."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from medad_plugins.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is claimed
    fcntl = None  # type: ignore[assignment]

__all__ = ["claim_folder", "claimed_folder", "release_folder"]

_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
# what this process has claimed: the open folder, and how often
_held: dict[str, tuple[int, int]] = {}


def claim_folder(path: str | os.PathLike[str], key: str = "--output_dir") -> None:
    """Take a folder for this process, until `release_folder` has been called as often, or the process has ended.

    A lock on the folder itself leaves no file behind. A disk that knows no locks is not claimed.

    Args:
        path: the folder, which is there.
        key: the key that says where it is, for the error.

    Raises:
        InputError: another process writes there.
    """
    name = os.path.realpath(path)
    if name in _held:
        folder, count = _held[name]
        _held[name] = folder, count + 1
        return
    if fcntl is None:
        return
    folder = os.open(name, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        if error.errno in _TAKEN:
            todo = f"give another {key}, or wait until it has ended"
            raise InputError("another run is writing into this folder", where=path, todo=todo) from error
        return
    _held[name] = folder, 1


def _let_go() -> None:
    """In a loading process: what its parent has claimed is claimed no longer than the parent lives."""
    for folder, _ in _held.values():
        with suppress(OSError):
            os.close(folder)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def release_folder(path: str | os.PathLike[str]) -> None:
    """Give back what `claim_folder` has taken; a folder that is not claimed is left alone."""
    name = os.path.realpath(path)
    folder, count = _held.pop(name, (-1, 0))
    if count > 1:
        _held[name] = folder, count - 1
    elif count == 1:
        with suppress(OSError):
            os.close(folder)


@contextmanager
def claimed_folder(path: str | os.PathLike[str], key: str = "--output_dir") -> Iterator[Path]:
    """A folder that no other run writes into as long as the block runs: see `claim_folder`."""
    claim_folder(path, key)
    try:
        yield Path(path)
    finally:
        release_folder(path)

"""Files that are either complete or not there, and reading tensors without running code."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import pickle
import re
import socket
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import torch

from medad_plugins.errors import InputError, printable

__all__ = [
    "append_text",
    "atomic_path",
    "csv_text",
    "home_path",
    "output_folder",
    "read_torch",
    "remove_file",
    "require_place",
    "unwritable",
    "write_csv",
    "write_json",
    "write_text",
    "write_torch",
    "written",
]

_KEY = "--output_dir"
# The faults of a file system that a user can do something about, with what to do; any other OSError is raised as it is.
_ANOTHER_PLACE = "give a folder that can be written as {key}"
_MORE_SPACE = "free some space, or give a folder on another disk as {key}"
_TODO = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _MORE_SPACE),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _ANOTHER_PLACE),
    **dict.fromkeys((errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP), _ANOTHER_PLACE),
    **dict.fromkeys((errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE), "check the disk, or give another as {key}"),
    errno.ENAMETOOLONG: "give the scan or the folder {key} a shorter name",
}
# what a killed process may leave behind: host and process are in the name
_HOST = f"{zlib.crc32(socket.gethostname().encode('utf-8', 'replace')):08x}"
_TEMPORARY = re.compile(r"\.([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}\.part(\..*)?")
_cleaned: set[Path] = set()


def unwritable(path: str | os.PathLike[str], error: OSError, key: str = _KEY) -> InputError:
    """The sentence for a file or folder that cannot be written.

    Args:
        path: which one.
        error: why.
        key: the key that says where it is.
    """
    todo = _TODO.get(error.errno or 0, _ANOTHER_PLACE).format(key=key)
    what = "the output folder cannot be written" if Path(path).is_dir() else "the file cannot be written"
    return InputError(what, where=path, found=error.strerror or str(error), todo=todo)


def home_path(path: str | os.PathLike[str]) -> str:
    """The path with the home folder in place of a leading ``~``, unless there is a file or folder of that very name.

    Raises:
        InputError: the name is too long, or there is no permission to look there.

    Example:
        >>> from pathlib import Path
        >>> home_path("~/scans") == str(Path.home() / "scans"), home_path("~no-such-user")
        (True, '~no-such-user')
    """
    text = os.fspath(path)
    text = text if os.path.lexists(text) else os.path.expanduser(text)
    try:
        os.lstat(text)
    except OSError as error:
        # these would be raised wherever the path is first looked at
        if error.errno == errno.ENAMETOOLONG:
            raise InputError("a name is too long for this disk", where=text, todo="shorten it") from error
        if error.errno == errno.EACCES:
            raise InputError("there is no permission to look here", where=text, todo="let it be read") from error
    return text


def output_folder(path: str | os.PathLike[str], key: str = _KEY) -> Path:
    """The folder, created with its parents where missing; what a killed process has left half-written there goes.

    Args:
        path: which one.
        key: the key that says where it is, for the error.

    Raises:
        InputError: it cannot be created or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        found, todo = error.strerror or str(error), _TODO.get(error.errno or 0, _ANOTHER_PLACE).format(key=key)
        raise InputError("the output folder cannot be written", where=folder, found=found, todo=todo) from error
    if folder not in _cleaned:
        _cleaned.add(folder)
        _remove_leftovers(folder)
    return folder


def _remove_leftovers(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.glob(".*.part*"):
            found = _TEMPORARY.fullmatch(path.name)
            if found and found[1] == _HOST and not _is_alive(int(found[2])):
                path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # there, and another user's
    return True


def _temporary(path: Path) -> Path:
    """A name beside ``path`` that is no longer than the limit where that of ``path`` is not, with the same suffix."""
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
    # a plain name instead of tempfile: its 0600 mode would hide the result from everybody but its writer
    return path.with_name(f".{_HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part{suffix}")


def require_place(path: str | os.PathLike[str], key: str = "--ckpt_path") -> None:
    """Refuse, before hours of work, a place that a file cannot be written to in the end.

    Args:
        path: of the file.
        key: the key that says where it is, for the error.

    Raises:
        InputError: its folder cannot be made or written, its name is too long, or a folder is there.
    """
    path = Path(path)
    output_folder(path.parent, key)
    try:
        is_folder = path.is_dir()
        path.with_name(f"{path.name}.stopped").is_file()
    except OSError as error:
        raise unwritable(path, error, key) from error
    if is_folder:
        todo = f"give the name of a file in it as {key}"
        raise InputError("there is a folder in place of the file", where=path, todo=todo)


@contextmanager
def atomic_path(path: str | os.PathLike[str], key: str = _KEY) -> Iterator[Path]:
    """A temporary path beside ``path`` (same folder, same suffix, hidden) that replaces it when the block succeeds.

    When the block fails, the temporary file is removed and what stood at ``path`` before stays.

    Args:
        path: the file.
        key: the key that says where it is, for the error.

    Raises:
        InputError: the file cannot be written, e.g. because the disk is full.
    """
    path = Path(path)
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        # what a block reads from elsewhere is no fault of the place it writes to
        own = error.filename is None or Path(os.fsdecode(error.filename)).parent == path.parent
        if error.errno in _TODO and own:
            raise unwritable(path, error, key) from error
        raise
    finally:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink(missing_ok=True)


@contextmanager
def written(path: str | os.PathLike[str], key: str = _KEY) -> Iterator[None]:
    """What fails in the block because of the disk is an `InputError` that names this file or folder.

    Args:
        path: what the block writes to.
        key: the key that says where it is, for the error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _TODO:
            raise unwritable(path, error, key) from error
        raise


class _Recording:
    """A binary file for PyTorch, which makes a RuntimeError of what happens to it: this one remembers it."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, values: Any) -> int:
        try:
            return int(self.file.write(values))
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_torch(
    path: str | os.PathLike[str],
    content: Any,
    key: str = "--ckpt_path",
    before: Callable[[Path], object] | None = None,
) -> None:
    """``torch.save``, atomically, and on the disk when it returns.

    Args:
        path: the file.
        content: tensors and plain values.
        key: the key that says where it is, for the error.
        before: called with the new file before it takes its place.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(path, key) as temporary:
        with temporary.open("wb") as file:
            recording = _Recording(file)
            try:
                torch.save(content, cast("IO[bytes]", recording))
            except RuntimeError as error:
                raise recording.error or error from error
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            before(temporary)


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
            todo="let it be read, or give another" if reason else "copy or make it again",
        ) from error


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, atomically; NaN and infinity are refused (ValueError), use None."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text as UTF-8, atomically; see `printable` for names that are no UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(printable(text).encode("utf-8"))


def append_text(path: str | os.PathLike[str], text: str) -> None:
    """Add text to a file, all of it or, where that fails, none.

    Raises:
        InputError: the file cannot be written.
    """
    values = printable(text).encode("utf-8")
    try:
        with open(path, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(values) != len(values):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise
    except OSError as error:
        raise unwritable(path, error) from error


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove a file where it is there.

    Raises:
        InputError: it cannot be removed.
    """
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def csv_text(rows: Iterable[Sequence[Any]], end: str = "\r\n") -> str:
    """Rows of values as lines of a CSV file, any file name in them printable."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end).writerows(rows)
    return printable(text.getvalue())


def write_csv(path: str | os.PathLike[str], rows: Iterable[Sequence[Any]], end: str = "\r\n") -> None:
    """Write rows of values, the first of them the names of the columns, as UTF-8, atomically."""
    write_text(path, csv_text(rows, end))

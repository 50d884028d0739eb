"""The bytes of a file, or the true reason why there are none."""

from __future__ import annotations

import zlib
from pathlib import Path

from medad_plugins.errors import InputError

__all__ = ["DAMAGED", "file_bytes", "gunzip", "is_gzip", "not_to_be_read", "require_content"]

DAMAGED = "copy the file again from its source"
_GZIP_MARK = b"\x1f\x8b"


def not_to_be_read(path: Path, error: OSError) -> InputError:
    """What to raise for a file or folder that the operating system does not give."""
    todo = "allow this user to read it" if isinstance(error, PermissionError) else "check the path and the disk"
    return InputError("the scan may not be read", where=path, found=error.strerror or type(error).__name__, todo=todo)


def file_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        InputError: it may not be read, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise not_to_be_read(path, error) from error
    if not content:
        raise InputError("the file is empty", where=path, todo=DAMAGED)
    return content


def require_content(path: Path) -> None:
    """Refuse a file that may not be read or is empty, without reading all of it.

    Raises:
        InputError: as `file_bytes`.
    """
    try:
        with open(path, "rb") as file:
            first = file.read(1)
    except OSError as error:
        raise not_to_be_read(path, error) from error
    if not first:
        raise InputError("the file is empty", where=path, todo=DAMAGED)


def gunzip(content: bytes, path: Path) -> bytes:
    """What a gzip file holds, with the checksum and length of every member verified.

    Raises:
        InputError: the stream is cut, a checksum or length is wrong, or something follows that is no gzip member.
    """
    parts: list[bytes] = []
    while content:
        # 31: a gzip member with its header; zlib itself compares the trailer's checksum and length
        inflate = zlib.decompressobj(31)
        try:
            parts.append(inflate.decompress(content))
        except zlib.error as error:
            raise InputError("the gzip file is damaged", where=path, found=_reason(error), todo=DAMAGED) from error
        if not inflate.eof:
            raise InputError("the gzip file is truncated", where=path, todo=DAMAGED)
        content = inflate.unused_data.lstrip(b"\0")  # tapes and some servers pad with zeros
    return parts[0] if len(parts) == 1 else b"".join(parts)


def is_gzip(content: bytes) -> bool:
    """Whether bytes begin with gzip's mark."""
    return content.startswith(_GZIP_MARK)


def _reason(error: zlib.error) -> str:
    text = str(error)
    if "incorrect data check" in text:
        return "a wrong checksum"
    return "a wrong length" if "incorrect length check" in text else "bytes that are no gzip"

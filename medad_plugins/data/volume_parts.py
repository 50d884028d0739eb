"""Header and voxels of NRRD and MetaImage files, to verify what ITK does not: lengths and checksums."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

from medad_plugins.data.file_content import DAMAGED, file_bytes, gunzip
from medad_plugins.errors import InputError

__all__ = ["check_volume_parts"]

_META_BYTES = {"CHAR": 1, "UCHAR": 1, "SHORT": 2, "USHORT": 2, "INT": 4, "UINT": 4, "FLOAT": 4, "DOUBLE": 8}
_META_BYTES |= {"LONG_LONG": 8, "ULONG_LONG": 8}
_NRRD_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), 1),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(
        ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"), 4
    ),
    **dict.fromkeys(("longlong", "long long", "int64", "int64_t", "ulonglong", "unsigned long long", "double"), 8),
    **dict.fromkeys(("uint64", "uint64_t"), 8),
}


def check_volume_parts(path: Path) -> None:
    """Refuse a NRRD or MetaImage file whose voxels are more or fewer than its header says, or fail their checksum.

    Voxels in several files, as text or in rarer encodings are left to ITK.

    Raises:
        InputError: see above, or the file of the voxels is missing.
    """
    content = file_bytes(path)
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        _check_nrrd(content, path)
    else:
        _check_metaimage(content, path)


def _check_nrrd(content: bytes, path: Path) -> None:
    end = re.search(rb"\r?\n\r?\n", content)
    header = content[: end.start() if end else None].decode("latin-1")
    fields = {key.strip().lower(): value.strip() for key, value in re.findall(r"^([\w ]+): (.*)$", header, re.M)}
    outside = fields.get("data file", fields.get("datafile", ""))
    skips = any(int(fields.get(key, "0") or 0) for key in ("byte skip", "byteskip", "line skip", "lineskip"))
    itemsize = _NRRD_TYPES.get(fields.get("type", ""))
    encoding = fields.get("encoding", "")
    if skips or itemsize is None or encoding not in ("raw", "gzip", "gz") or re.search(r"\s\d|LIST|%", outside):
        return
    voxels = _outside(path, outside) if outside else content[end.end() if end else len(content) :]
    if encoding != "raw":
        voxels = gunzip(voxels, path)
    _check_length(len(voxels), _product(fields.get("sizes", "")) * itemsize, path)


def _check_metaimage(content: bytes, path: Path) -> None:
    last = re.search(rb"^ElementDataFile[ \t]*=[ \t]*([^\r\n]*)\r?\n?", content, re.M)
    if last is None:
        raise _damaged(path, "no ElementDataFile")
    header = content[: last.start()].decode("latin-1")
    fields = dict(re.findall(r"^(\w+)[ \t]*=[ \t]*([^\r\n]*?)[ \t]*$", header, re.M))
    itemsize = _META_BYTES.get(fields.get("ElementType", "").removeprefix("MET_").removesuffix("_ARRAY"))
    outside = last[1].decode("latin-1").strip()
    if itemsize is None or outside.startswith("LIST") or "%" in outside or "HeaderSize" in fields:
        return
    voxels = content[last.end() :] if outside.upper() == "LOCAL" else _outside(path, outside)
    if fields.get("CompressedData", "").lower() == "true":
        try:
            voxels = zlib.decompress(voxels)
        except zlib.error as error:
            raise _damaged(path, "compressed voxels that are cut or fail their checksum") from error
    channels = int(fields.get("ElementNumberOfChannels") or 1)
    _check_length(len(voxels), _product(fields.get("DimSize", "")) * itemsize * channels, path)


def _product(sizes: str) -> int:
    return math.prod(int(size) for size in sizes.split()) if re.fullmatch(r"[\d ]+", sizes) else 0


def _outside(path: Path, name: str) -> bytes:
    other = path.parent / name
    if not other.is_file():
        raise InputError("the file of the voxels does not exist", where=path, expected=name, todo="give both files")
    return file_bytes(other)


def _check_length(found: int, expected: int, path: Path) -> None:
    if found != expected:
        raise _damaged(path, f"{found} bytes of voxels where the header says {expected}")


def _damaged(path: Path, found: str) -> InputError:
    return InputError("the file is truncated or damaged", where=path, found=found, todo=DAMAGED)

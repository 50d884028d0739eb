"""Reading pictures: PNG, JPEG, BMP and TIFF."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from medad_plugins.data.file_content import DAMAGED, file_bytes
from medad_plugins.data.scan import PICTURE_AFFINE, Scan, stored_bits_of
from medad_plugins.data.simpleitk_file import FORMATS_TODO, read_wide_colour, simpleitk_is_installed
from medad_plugins.errors import InputError

__all__ = ["read_picture"]

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF")
# Pillow's modes that hold plain numbers already; every other mode is converted to one of them first.
_PLAIN_MODES = {"L", "RGB", "I;16", "I", "F", "LA", "RGBA"}
_CONVERT_TO = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "I;16B": "I",
    "I;16L": "I",
    "La": "LA",
    "RGBa": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
_EXIF_ORIENTATION = 0x0112
_NEW_SUBFILE_TYPE, _PHOTOMETRIC, _BITS, _DESCRIPTION, _SAMPLES, _SAMPLE_FORMAT = 254, 262, 258, 270, 277, 339
_SMALLER_OR_MASK = 1 | 4  # of the subfile type: a thumbnail, a transparency mask
_MIN_IS_WHITE, _SIGNED = 0, 2
_FLOAT = 3


class _Unsupported(Exception):
    """What Pillow would read with other values than are stored."""


class _WideColour(_Unsupported):
    """Colour of more bits than Pillow keeps."""


class _Pixels(NamedTuple):
    array: np.ndarray  # (rows, columns[, channels])
    has_alpha: bool  # whether the last channel is alpha


def read_picture(path: Path) -> Scan:
    """Read a PNG, JPEG, BMP or TIFF as ``(columns, rows)`` or, in colour, ``(columns, rows, 3)``.

    Numbers are those stored, where they have 8 bits or more; fewer bits are spread over 0..255. Palettes are resolved,
    white-is-zero is inverted, an EXIF rotation is applied (so the grid is what viewers show) and a constant alpha
    channel is dropped. A PNG's checksums are verified. Thumbnails and masks in a TIFF or JPEG are no pages.

    Raises:
        InputError: not an image, truncated, too large, several pages, kinds of pixels that are not read, or
            transparency that varies over the image.
    """
    content = file_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images and odd metadata: what matters is refused below
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_whole(content, str(image.format), path)
                pages = _full_pages(image)
                if len(pages) == 1:
                    pixels = _decoded(image, pages[0], path)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(error, path) from error
    except (UnidentifiedImageError, SyntaxError) as error:  # the latter where a later page of a TIFF is not known
        raise _unknown(content, path) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise InputError("the image is truncated or damaged", where=path, todo=DAMAGED) from error
    if len(pages) != 1:
        todo = "save each page as a file of its own, or the stack as a NIfTI volume"
        raise InputError("the image file has several pages", where=path, expected=1, found=len(pages), todo=todo)
    array = _drop_alpha(pixels.array, path) if pixels.has_alpha else pixels.array
    return Scan(array.swapaxes(0, 1), PICTURE_AFFINE.copy(), stored_bits_of(array.dtype), array.ndim == 3, False)


def _too_large(error: Image.DecompressionBombError, path: Path) -> InputError:
    found = re.search(r"\((\d+) pixels\)", str(error))
    return InputError(
        "the image has too many pixels",
        where=path,
        expected=f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0)}",
        found=found[1] if found else None,
        todo="cut it into tiles, or save it smaller",
    )


def _unknown(content: bytes, path: Path) -> InputError:
    """Why Pillow does not know a file: another format, a kind of TIFF, or no image at all."""
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return InputError(
            "this kind of TIFF is not read, or it is damaged",
            where=path,
            expected="grey of 1 to 32 bits, or RGB of 8",
            todo="save it as a TIFF of grey 16-bit numbers, or as NIfTI",
        )
    found = None
    try:
        with Image.open(io.BytesIO(content)) as image:
            found = image.format
    except Exception:  # whatever it is, it is none of ours
        found = None
    return InputError(
        "the file is not an image",
        where=path,
        expected="PNG, JPEG, BMP or TIFF",
        found=found,
        todo="remove or replace it",
    )


def _check_whole(content: bytes, kind: str, path: Path) -> None:
    """Refuse what Pillow would show although it is damaged: it skips a PNG's checksums and a JPEG's missing end."""
    if kind == "PNG":
        _check_png(content, path)
    # the end of the image data: thumbnails come before the start of scan, other things may follow
    if kind in ("JPEG", "MPO") and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        raise InputError("the image is truncated or damaged", where=path, found="no end of image", todo=DAMAGED)


def _check_png(content: bytes, path: Path) -> None:
    view, place, kind = memoryview(content), 8, b""
    while kind != b"IEND":
        end = place + 12 + int.from_bytes(view[place : place + 4], "big")
        if place + 12 > len(content) or end > len(content):
            raise InputError("the image is truncated or damaged", where=path, found="no end of image", todo=DAMAGED)
        kind = bytes(view[place + 4 : place + 8])
        if zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise InputError("the image is truncated or damaged", where=path, found="a wrong checksum", todo=DAMAGED)
        place = end


def _full_pages(image: ImageFile.ImageFile) -> list[int]:
    """The pages that are images of their own."""
    count = getattr(image, "n_frames", 1)
    if image.format != "TIFF":
        # further images of a JPEG are its previews
        return [0] if image.format == "MPO" else list(range(count))
    description = str(image.tag_v2.get(_DESCRIPTION, ""))  # type: ignore[attr-defined]
    stack = re.search(r"^images=(\d+)", description, re.MULTILINE) if description.startswith("ImageJ=") else None
    if count == 1:
        # ImageJ writes a large stack as one page with the others behind it
        return list(range(int(stack[1]))) if stack else [0]
    pages = []
    for page in range(count):
        image.seek(page)
        if not int(image.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & _SMALLER_OR_MASK:  # type: ignore[attr-defined]
            pages.append(page)
    return pages


def _decoded(image: ImageFile.ImageFile, page: int, path: Path) -> _Pixels:
    if getattr(image, "n_frames", 1) > 1:
        image.seek(page)
    try:
        return _tiff_pixels(image) if image.format == "TIFF" else _pixels(image)
    except _WideColour as error:
        if getattr(image, "n_frames", 1) == 1 and image.getexif().get(_EXIF_ORIENTATION, 1) == 1:
            if simpleitk_is_installed():
                array = read_wide_colour(path)
                return _Pixels(array, array.shape[-1] in (2, 4))
            raise InputError(
                "this kind of picture needs the package SimpleITK", where=path, found=str(error), todo=FORMATS_TODO
            ) from error
        raise _not_read(path, error) from error
    except _Unsupported as error:
        raise _not_read(path, error) from error


def _not_read(path: Path, reason: Exception) -> InputError:
    expected, todo = "grey or RGB", "convert it"
    return InputError("this kind of picture is not read", where=path, expected=expected, found=str(reason), todo=todo)


def _pixels(image: ImageFile.ImageFile) -> _Pixels:
    _refuse_lost_bits(image)
    # applies to all formats alike; Pillow itself turns a TIFF while it decodes it
    turned = image.getexif().get(_EXIF_ORIENTATION, 1) != 1
    return _numbers(ImageOps.exif_transpose(image) if turned else image)


def _numbers(image: Image.Image) -> _Pixels:
    if "transparency" in image.info and image.mode in ("P", "L", "RGB", "1"):
        image = image.convert("RGBA" if image.mode in ("P", "RGB") else "LA")
    elif image.mode == "I;16" and "transparency" in image.info:
        array = np.asarray(image)
        return _Pixels(np.dstack([array, array != image.info["transparency"]]), True)
    elif image.mode not in _PLAIN_MODES:
        if image.mode not in _CONVERT_TO:
            raise _Unsupported(f"colours of the kind {image.mode}")
        image = image.convert(_CONVERT_TO[image.mode])
    return _Pixels(np.asarray(image), image.mode in ("LA", "RGBA"))


def _refuse_lost_bits(image: ImageFile.ImageFile) -> None:
    """Pillow keeps 8 bits of wider colours, and leaves out channels it has no name for."""
    args = image.tile[0][3] if image.tile else ""
    raw = args if isinstance(args, str) else str(args[0]) if args else ""
    if image.tile and image.tile[0][0] == "libtiff" and re.search(r";(16|32)B", raw):
        # libtiff gives the machine's own order, and Pillow takes it for the file's
        raise _Unsupported("compressed numbers, the highest byte first")
    if raw.startswith("LA;16"):
        raise _Unsupported("grey of 16 bits with transparency")
    if ";16" in raw and not image.mode.startswith("I"):
        raise _WideColour("several channels of 16 bits")
    if raw.endswith("X") and image.format == "TIFF":  # in a BMP it is filling
        raise _Unsupported(f"{len(raw)} channels")


def _tiff_pixels(image: ImageFile.ImageFile) -> _Pixels:
    """Pixels of a TIFF page, with the signs and the direction of grey that Pillow does not heed."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits, layout = _first(tags.get(_BITS, 1)), _first(tags.get(_SAMPLE_FORMAT, 1))
    photometric = tags.get(_PHOTOMETRIC, 1)
    if bits > 8 and int(tags.get(_SAMPLES, 1)) > 1:
        raise _WideColour(f"several channels of {bits} bits")
    pixels = _pixels(image)
    array = pixels.array
    if bits == 8 and layout == _SIGNED:
        array = array.view(np.int8)
    elif bits == 32 and layout not in (_SIGNED, _FLOAT) and array.dtype == np.int32:
        array = array.view(np.uint32)
    if photometric == _MIN_IS_WHITE and bits > 8:
        if layout in (_SIGNED, _FLOAT):
            raise _Unsupported("signed or floating-point numbers with white as zero")
        array = np.asarray(2**bits - 1 - array.astype(np.int64), dtype=array.dtype)
    return pixels._replace(array=array)


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


def _drop_alpha(array: np.ndarray, path: Path) -> np.ndarray:
    alpha = array[..., -1]
    if alpha.min() != alpha.max():
        raise InputError(
            "the image has an alpha channel that varies",
            where=path,
            expected="grey or RGB",
            found="transparency",
            todo="save it without transparency",
        )
    return array[..., 0] if array.shape[-1] == 2 else array[..., :-1]

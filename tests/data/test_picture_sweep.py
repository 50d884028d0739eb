"""Pictures by other writers: every kind has the numbers that were written, or a sentence says why not."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medad_plugins.data import find_scans
from medad_plugins.data.picture_file import read_picture
from medad_plugins.errors import InputError

_RNG = np.random.RandomState(0)
G8 = _RNG.randint(0, 256, (9, 12)).astype(np.uint8)
G16 = _RNG.randint(0, 65536, (9, 12)).astype(np.uint16)
I16 = _RNG.randint(-3000, 3000, (9, 12)).astype(np.int16)
RGB = _RNG.randint(0, 256, (9, 12, 3)).astype(np.uint8)
RGB16 = _RNG.randint(0, 65536, (9, 12, 3)).astype(np.uint16)
needs_simpleitk = pytest.mark.skipif(find_spec("SimpleITK") is None, reason="needs SimpleITK")

NUMBERS: dict[str, np.ndarray] = {
    "u8": G8,
    "i8": G8.view(np.int8),
    "u16": G16,
    "i16": I16,
    "u32": G16.astype(np.uint32) * 65000,
    "i32": I16.astype(np.int32) * 60000,
    "f32": I16.astype(np.float32) / 7,
}


def _tiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path, array, **options)
    return path


def _check(path: Path, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(read_picture(path).array, np.asarray(expected).swapaxes(0, 1))


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_numbers_of_every_kind_in_tiff(tmp_path: Path, kind: str, order: str, compression: str | None) -> None:
    path = _tiff(tmp_path / "a.tif", NUMBERS[kind], byteorder=order, compression=compression)
    if order == ">" and (kind == "u32" or (compression and kind in ("i16", "i32", "f32"))):
        with pytest.raises(InputError, match="is not read"):
            read_picture(path)
        return
    _check(path, NUMBERS[kind])


@pytest.mark.parametrize("kind", ["u8", "u16", "i16", "u32", "f32"])
def test_white_as_zero(tmp_path: Path, kind: str) -> None:
    array = NUMBERS[kind]
    path = _tiff(tmp_path / "a.tif", array, photometric="miniswhite")
    if kind in ("u8", "u16"):
        _check(path, np.iinfo(array.dtype).max - array)
    else:
        with pytest.raises(InputError, match="not read"):
            read_picture(path)


@pytest.mark.parametrize(
    ("array", "options", "message"),
    [
        (G16 / 7, {}, "kind of TIFF is not read"),
        (G8.astype(np.float16), {}, "kind of TIFF is not read"),
        (G16.astype(np.uint64), {}, "kind of TIFF is not read"),
        (G16, {"photometric": "palette", "colormap": _RNG.randint(0, 9, (3, 65536)).astype(np.uint16)}, "not read"),
        (np.dstack([RGB, G8]), {"photometric": "rgb", "extrasamples": ["unspecified"]}, "found 4 channels"),
        (np.dstack([G8, G8]), {"photometric": "minisblack", "planarconfig": "contig"}, "found 2 channels"),
        (RGB, {"photometric": "cielab"}, "colours of the kind LAB"),
        (np.stack([G8] * 3), {"photometric": "minisblack"}, "several pages.*found 3"),
        (np.stack([G16] * 5), {"imagej": True}, "several pages.*found 5"),
        (G16, {"description": "ImageJ=1.54f\nimages=5\nslices=5\n", "metadata": None}, "several pages.*found 5"),
    ],
)
def test_kinds_of_tiff_that_are_refused(
    tmp_path: Path, array: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_picture(_tiff(tmp_path / "a.tif", array, **options))


PALETTE = _RNG.randint(0, 65536, (3, 256)).astype(np.uint16)


@pytest.mark.parametrize(
    ("array", "options", "expected"),
    [
        (G16, {"tile": (16, 16)}, G16),
        (G16, {"bigtiff": True}, G16),
        (G16, {"imagej": True}, G16),
        (G16, {"compression": "zlib", "predictor": True}, G16),
        (G8, {"photometric": "palette", "colormap": PALETTE}, (PALETTE >> 8).T[G8]),
        (RGB, {"photometric": "rgb"}, RGB),
        (RGB.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, RGB),
        (np.dstack([RGB, G8 * 0 + 255]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, RGB),
        (G8 > 100, {"photometric": "minisblack"}, (G8 > 100) * 255),
        (G8 > 100, {"photometric": "miniswhite"}, (G8 <= 100) * 255),
    ],
)
def test_layouts_of_tiff(tmp_path: Path, array: np.ndarray, options: dict[str, Any], expected: np.ndarray) -> None:
    _check(_tiff(tmp_path / "a.tif", array, **options), expected)


@pytest.mark.parametrize("thumbnail_first", [False, True])
def test_thumbnails_are_no_pages(tmp_path: Path, thumbnail_first: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    pages = [(G16, 0), (G16[:4, :6], 1)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for array, subfile in pages[::-1] if thumbnail_first else pages:
            file.write(array, subfiletype=subfile)
    _check(tmp_path / "a.tif", G16)


def test_a_page_that_is_a_mask_is_beyond_pillow(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(G16)
        file.write(G8 > 100, subfiletype=4, photometric="mask")
    with pytest.raises(InputError, match="kind of TIFF is not read"):
        read_picture(tmp_path / "a.tif")


TURNED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("tag", TURNED)
@pytest.mark.parametrize("kind", ["u8", "u16", "i16", "f32", "rgb"])
def test_orientation_tags(tmp_path: Path, tag: int, kind: str) -> None:
    array = RGB if kind == "rgb" else NUMBERS[kind]
    if kind in ("u8", "u16", "rgb"):
        exif = Image.Exif()
        exif[274] = tag
        Image.fromarray(array).save(tmp_path / "a.png", exif=exif)
        _check(tmp_path / "a.png", TURNED[tag](array))
    photometric = "rgb" if kind == "rgb" else "minisblack"
    path = _tiff(tmp_path / "a.tif", array, photometric=photometric, extratags=[(274, "H", 1, tag, True)])
    _check(path, TURNED[tag](array))


@needs_simpleitk
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [None, "constant", "varying"])
def test_sixteen_bits_of_colour(tmp_path: Path, suffix: str, alpha: str | None) -> None:
    import SimpleITK

    channels = [RGB16, *([] if alpha is None else [G16 * 0 + 9 if alpha == "constant" else G16])]
    image = SimpleITK.GetImageFromArray(np.dstack(channels), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / f"a{suffix}"))
    if alpha == "varying":
        with pytest.raises(InputError, match="not read|alpha channel that varies"):
            read_picture(tmp_path / f"a{suffix}")
    else:
        _check(tmp_path / f"a{suffix}", RGB16)
        assert read_picture(tmp_path / f"a{suffix}").stored_bits == 16


def test_sixteen_bits_of_colour_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medad_plugins.data.picture_file.simpleitk_is_installed", lambda: False)
    path = _tiff(tmp_path / "a.tif", RGB16, photometric="rgb")
    with pytest.raises(InputError, match=r"needs the package SimpleITK.*medad-plugins\[formats\]"):
        read_picture(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_palettes_of_every_depth(tmp_path: Path, bits: int, suffix: str) -> None:
    indices = (G8 & (2**bits - 1)).astype(np.uint8)
    colours = _RNG.randint(0, 256, (2**bits, 3)).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours.ravel().tolist())
    options: dict[str, Any] = {"bits": bits} if suffix == ".png" else {}
    image.save(tmp_path / f"a{suffix}", **options)
    _check(tmp_path / f"a{suffix}", colours[indices])


@pytest.mark.parametrize("array", [G8, G16, RGB])
def test_a_transparent_colour_counts_where_it_occurs(tmp_path: Path, array: np.ndarray) -> None:
    key = tuple(int(value) for value in array[0, 0]) if array.ndim == 3 else int(array[0, 0])
    Image.fromarray(array).save(tmp_path / "a.png", transparency=key)
    with pytest.raises(InputError, match="alpha channel that varies"):
        read_picture(tmp_path / "a.png")
    dark = array // 2
    Image.fromarray(dark).save(tmp_path / "a.png", transparency=(255, 255, 255) if array.ndim == 3 else 255 << 7)
    if array.dtype == np.uint16 or array.ndim == 3:
        _check(tmp_path / "a.png", dark)


def test_an_alpha_channel_of_any_constant_is_dropped(tmp_path: Path) -> None:
    for value in (0, 128, 255):
        Image.fromarray(np.dstack([RGB, G8 * 0 + value])).save(tmp_path / "a.png")
        _check(tmp_path / "a.png", RGB)


def test_previews_in_a_jpeg_are_no_pages(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    single = read_picture(tmp_path / "a.jpg").array
    preview = Image.fromarray(RGB[:4])
    Image.fromarray(RGB).save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg").array, single)


def test_cmyk_is_what_viewers_show(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "a.jpg")
    _check(tmp_path / "a.jpg", np.asarray(Image.open(tmp_path / "a.jpg").convert("RGB")))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PPM"])
def test_other_formats_are_named(tmp_path: Path, kind: str) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png", format=kind)
    with pytest.raises(InputError, match=f"not an image.*found {kind}"):
        read_picture(tmp_path / "a.png")


def test_too_many_pixels(tmp_path: Path) -> None:
    Image.new("1", (20000, 9500)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="too many pixels.*expected at most 178956970, found 190000000"):
        read_picture(tmp_path / "a.png")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(G8).save(tmp_path / "a.png")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="may not be read.*Permission denied"):
        read_picture(tmp_path / "a.png")


def test_an_interlaced_png_and_its_cuts(tmp_path: Path) -> None:
    # Adam7, by hand: an 8 x 8 grey image whose passes have filter 0
    import struct
    import zlib

    grey = _RNG.randint(0, 256, (8, 8)).astype(np.uint8)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        b"\0" + grey[row, left::across].tobytes() for top, left, down, across in passes for row in range(top, 8, down)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    whole = b"\x89PNG\r\n\x1a\n" + b"".join(parts)
    path = tmp_path / "a.png"
    path.write_bytes(whole)
    _check(path, grey)
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            read_picture(path)


def test_what_is_not_read_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(G8).save(tmp_path / "a.png")
    Image.fromarray(G8).save(tmp_path / "b.gif")
    Image.fromarray(G8).save(tmp_path / ".c.png")
    (tmp_path / "d.jp2").write_bytes(b"\0\0\0\x0cjP")
    (tmp_path / "e").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".git").mkdir()
    assert find_scans(tmp_path) == [tmp_path / "a.png"]
    assert "2 of a format that is not read (b.gif, d.jp2)" in caplog.text
    assert "1 empty (e)" in caplog.text and "2 hidden (.c.png, .git)" in caplog.text
    (tmp_path / "a.png").unlink()
    with pytest.raises(
        InputError, match=r"no scan in the folder.*found 2 of a format that is not read \(b.gif, d.jp2\)"
    ):
        find_scans(tmp_path)


def test_folders_without_permission_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    Image.fromarray(G8).save(tmp_path / "a.png")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def guarded(path: Any = ".") -> Any:
        if Path(os.fsdecode(path)).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert find_scans(tmp_path) == [tmp_path / "a.png"]
    assert "1 may not be read (closed)" in caplog.text
    with pytest.raises(InputError, match="may not be read.*closed.*Permission denied"):
        find_scans(tmp_path / "closed")

"""Pictures of every mode: read right or refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medad_plugins.data.picture_file import read_picture
from medad_plugins.errors import InputError


def _grey(rows: int = 9, columns: int = 12) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 255, (rows, columns)).astype(np.uint8)


def _rgb() -> np.ndarray:
    return np.random.RandomState(1).randint(0, 255, (9, 12, 3)).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_grey_pictures_are_columns_then_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_grey()).save(path)
    scan = read_picture(path)
    assert (scan.array.shape, scan.stored_bits, scan.has_channels) == ((12, 9), 8, False)
    np.testing.assert_array_equal(scan.array, np.asarray(Image.open(path)).T)
    assert suffix == ".jpg" or np.array_equal(scan.array, _grey().T)


def test_colour_and_opaque_alpha(tmp_path: Path) -> None:
    opaque = np.dstack([_rgb(), np.full((9, 12), 255, np.uint8)])
    for name, array in (("rgb", _rgb()), ("rgba", opaque)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
        scan = read_picture(tmp_path / f"{name}.png")
        assert scan.has_channels
        np.testing.assert_array_equal(scan.array, _rgb().transpose(1, 0, 2))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_that_varies_is_refused(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(_rgb()).convert(mode)
    image.putalpha(Image.fromarray(_grey()))
    image.save(tmp_path / "a.png")
    with pytest.raises(InputError, match="alpha channel that varies"):
        read_picture(tmp_path / "a.png")


def test_grey_with_opaque_alpha_is_grey(tmp_path: Path) -> None:
    Image.fromarray(_grey()).convert("LA").save(tmp_path / "a.png")
    scan = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(scan.array, _grey().T)
    assert not scan.has_channels


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    array = _grey().astype(np.uint16) * 257
    Image.fromarray(array).save(tmp_path / f"a{suffix}")
    scan = read_picture(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(scan.array, array.T)
    assert scan.stored_bits == 16


def test_big_endian_and_float_tiff(tmp_path: Path) -> None:
    wide = _grey().astype(np.uint16) * 200
    Image.frombytes("I;16B", (12, 9), wide.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif").array, wide.T)
    Image.fromarray(wide.astype(np.float32) / 7).save(tmp_path / "b.tif")
    scan = read_picture(tmp_path / "b.tif")
    np.testing.assert_array_equal(scan.array, wide.T.astype(np.float32) / 7)
    assert scan.stored_bits == 32


def test_palette_and_bilevel(tmp_path: Path) -> None:
    indices = Image.fromarray(np.arange(108, dtype=np.uint8).reshape(9, 12) % 4, mode="P")
    colours = np.random.RandomState(0).randint(0, 255, (4, 3)).astype(np.uint8)
    indices.putpalette(colours.ravel().tolist())
    indices.save(tmp_path / "palette.png")
    expected = colours[np.arange(108).reshape(9, 12) % 4].transpose(1, 0, 2)
    np.testing.assert_array_equal(read_picture(tmp_path / "palette.png").array, expected)
    Image.fromarray(_grey() > 100).save(tmp_path / "bilevel.png")
    scan = read_picture(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(scan.array, (_grey() > 100).T * 255)
    assert scan.stored_bits == 8


def test_palette_with_a_transparent_colour_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(108, dtype=np.uint8).reshape(9, 12) % 4, mode="P")
    image.putpalette(list(range(12)))
    image.save(tmp_path / "a.png", transparency=0)
    with pytest.raises(InputError, match="alpha channel that varies"):
        read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_rotation_is_applied(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    Image.fromarray(_grey(16, 24)).save(tmp_path / f"a{suffix}", exif=exif)
    stored = np.asarray(Image.open(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").array, np.rot90(stored, -1).T)


def test_several_pages_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(_grey() + i) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="several pages.*expected 1, found 3"):
        read_picture(tmp_path / "a.tif")


def test_text_and_empty_files_named_png(tmp_path: Path) -> None:
    for content, message in (("hello, this is text", "not an image.*a.png"), ("", "the file is empty: .*a.png")):
        (tmp_path / "a.png").write_text(content)
        with pytest.raises(InputError, match=message):
            read_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_truncated_pictures_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_grey(60, 80)).save(path)
    whole = path.read_bytes()
    for part in (0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(InputError, match=f"a{suffix}"):
            read_picture(path)

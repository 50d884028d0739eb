"""NRRD and MetaImage: read as SimpleITK writes them, or refused with a sentence."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medad_plugins.data import find_scans, read_scan
from medad_plugins.errors import InputError

needs_simpleitk = pytest.mark.skipif(find_spec("SimpleITK") is None, reason="needs SimpleITK")
SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUME = np.random.RandomState(0).randint(-900, 900, (7, 8, 9)).astype(np.int16)


def _write(path: Path, array: np.ndarray, packed: bool = False, is_vector: bool = False) -> Any:
    """Write ``(z, y, x[, c])`` with an oblique affine."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array, isVector=is_vector)
    if image.GetDimension() == 3:
        image.SetSpacing((1.5, 2, 3))
        image.SetOrigin((4, 5, 6))
        image.SetDirection((0, 0.8, 0.6, -1, 0, 0, 0, -0.6, 0.8))
    SimpleITK.WriteImage(image, str(path), packed)
    return image


@needs_simpleitk
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "f4", "f8"])
def test_numbers_and_place(tmp_path: Path, suffix: str, packed: bool, dtype: str) -> None:
    path = tmp_path / f"a{suffix}"
    array = VOLUME.astype(dtype)
    image = _write(path, array, packed)
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.array, array.transpose(2, 1, 0))
    assert scan.stored_bits == {"u1": 8, "f8": 64, "i4": 32, "f4": 32}.get(dtype, 16)
    for index in ((0, 0, 0), (3, 1, 5)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((scan.affine @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-5)
    # the file of the voxels is no scan of its own
    assert find_scans(tmp_path) == [path]


@needs_simpleitk
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_and_channels(tmp_path: Path, suffix: str) -> None:
    colours = np.random.RandomState(1).randint(0, 255, (8, 9, 3)).astype(np.uint8)
    _write(tmp_path / f"a{suffix}", colours, is_vector=True)
    scan = read_scan(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(scan.array, colours.transpose(1, 0, 2))
    assert (scan.has_channels, scan.stored_bits) == (True, 8)
    _write(tmp_path / f"a{suffix}", VOLUME[:1])
    np.testing.assert_array_equal(read_scan(tmp_path / f"a{suffix}").array, VOLUME[0].T)


@needs_simpleitk
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("packed", [False, True])
def test_other_lengths_are_refused(tmp_path: Path, suffix: str, packed: bool) -> None:
    path = tmp_path / f"a{suffix}"
    _write(path, VOLUME, packed)
    (data,) = [other for other in tmp_path.iterdir() if other != path] or [path]
    whole = data.read_bytes()
    for content in (whole[:-9], *(() if packed else (whole + b"\0\0",))):
        data.write_bytes(content)
        with pytest.raises(InputError, match="truncated|damaged"):
            read_scan(path)
    if data != path:
        data.unlink()
        with pytest.raises(InputError, match="file of the voxels does not exist"):
            read_scan(path)


@needs_simpleitk
def test_files_of_another_format_than_their_name(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix}").write_text("no image at all")
        with pytest.raises(InputError, match="damaged|does not exist"):
            read_scan(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_without_the_package_the_extra_is_named(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    (tmp_path / f"a{suffix}").write_bytes(b"NRRD0004\n")
    assert find_scans(tmp_path) == [tmp_path / f"a{suffix}"]
    with pytest.raises(InputError, match=r"need the package SimpleITK.*pip install 'medad-plugins\[formats\]'"):
        read_scan(tmp_path / f"a{suffix}")

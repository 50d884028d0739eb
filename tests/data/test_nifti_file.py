"""NIfTI files of every kind: read right or refused in a sentence."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medad_plugins.data.nifti_file import read_nifti
from medad_plugins.errors import InputError


def _nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def test_nifti_axes_affine_and_width(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0.3, 4], [1.5, 0, 0.1, -5], [0, 0.2, -3, 6], [0, 0, 0, 1]])
    array = np.random.RandomState(0).randint(0, 900, (7, 8, 9)).astype(np.int16)
    for name in ("a.nii", "a.nii.gz"):
        scan = read_nifti(_nifti(tmp_path / name, array, affine))
        np.testing.assert_array_equal(scan.array, array)
        np.testing.assert_allclose(scan.affine, affine, atol=1e-6)
        assert (scan.stored_bits, scan.has_channels) == (16, False)
    assert read_nifti(_nifti(tmp_path / "b.nii", array.astype(np.uint8))).stored_bits == 8


def test_scaled_bytes_are_no_longer_bytes(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(2.0, 1.0)
    image.to_filename(tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(scan.array.ravel(), np.arange(60) * 2.0 + 1.0)
    assert scan.stored_bits == 32


@pytest.mark.parametrize(
    ("shape", "read_as", "has_channels"),
    [
        ((7, 8), (7, 8), False),
        ((7, 8, 1), (7, 8), False),
        ((7, 8, 9, 1), (7, 8, 9), False),
        ((7, 8, 9, 4), (7, 8, 9, 4), True),
        ((7, 8, 1, 3), (7, 8, 3), True),
        ((7, 8, 9, 1, 2), (7, 8, 9, 2), True),
    ],
)
def test_singleton_axes_and_channels(
    tmp_path: Path, shape: tuple[int, ...], read_as: tuple[int, ...], has_channels: bool
) -> None:
    array = np.random.RandomState(0).rand(*shape).astype(np.float32)
    scan = read_nifti(_nifti(tmp_path / "a.nii", array))
    assert (scan.array.shape, scan.has_channels) == (read_as, has_channels)
    np.testing.assert_array_equal(scan.array.ravel(), array.ravel())


def test_colour_nifti(tmp_path: Path) -> None:
    colours = np.random.RandomState(0).randint(0, 255, (7, 8, 9, 3)).astype(np.uint8)
    packed = np.ascontiguousarray(colours).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    scan = read_nifti(_nifti(tmp_path / "a.nii", packed))
    np.testing.assert_array_equal(scan.array, colours)
    assert (scan.has_channels, scan.stored_bits) == (True, 8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5, 6, 2, 3), np.float32), "is not an image.*4 x 5 x 6 x 2 x 3"),
        (np.zeros(5, np.float32), "is not an image"),
        (np.zeros((4, 5, 6), np.complex64), "complex numbers"),
    ],
)
def test_nifti_that_is_no_image(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_nifti(_nifti(tmp_path / "a.nii", array))


def test_nifti_without_a_usable_affine(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    image.header.set_sform(np.diag([1.0, 0.0, 1.0, 1.0]), code=1)
    image.header["qform_code"] = 0
    nibabel.Nifti1Image(image.dataobj, None, image.header).to_filename(tmp_path / "a.nii")
    with pytest.raises(InputError, match="no usable affine"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_nifti(tmp_path: Path, name: str) -> None:
    path = _nifti(tmp_path / name, np.random.RandomState(0).rand(9, 10, 11).astype(np.float32))
    whole = path.read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 60):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="is empty|is truncated"):
            read_nifti(path)


def test_damaged_nifti_headers_are_refused_not_raised(tmp_path: Path) -> None:
    path = _nifti(tmp_path / "a.nii", np.random.RandomState(0).rand(9, 10, 11).astype(np.float32))
    whole, rng = path.read_bytes(), np.random.RandomState(0)
    outcomes: set[object] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            damaged = bytearray(whole)
            for _ in range(4):
                damaged[rng.randint(352)] = rng.randint(256)
            path.write_bytes(damaged)
            try:
                outcomes.add(read_nifti(path).array.shape)
            except InputError:
                outcomes.add("refused")
    assert "refused" in outcomes and (9, 10, 11) in outcomes

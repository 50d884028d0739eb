"""Masks are compared in space, not voxel number by voxel number."""

from __future__ import annotations

import logging
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from scan_samples import AXIAL, dicom_image

from medad_plugins.data import read_scan
from medad_plugins.errors import InputError
from medad_plugins.transforms import read_mask, read_mask_of

SHAPE = (12, 16, 10)
AFFINE = np.array([[2.0, 0, 0, -20], [0, 3, 0, -30], [0, 0, 4, 5], [0, 0, 0, 1]])
LESION = np.zeros(SHAPE, dtype=np.uint8)
LESION[2:5, 9:14, 3:6] = 1
ORIENTATIONS = [
    "".join(codes)
    for axes in permutations(("RL", "AP", "SI"))
    for codes in product(*axes)
    if "".join(codes) in ("RAS", "LAS", "LPS", "PSR", "SLA", "IRP", "ALI")
]


def _save(path: Path, values: np.ndarray, affine: np.ndarray | None) -> Path:
    nib.save(nib.Nifti1Image(values, affine), path)
    return path


def _read(path: Path, affine: np.ndarray | None = AFFINE, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return read_mask(path, shape, "scan7", affine)


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_however_its_axes_run(tmp_path: Path, codes: str) -> None:
    image = nib.Nifti1Image(LESION, AFFINE)
    turned = image.as_reoriented(ornt_transform(io_orientation(AFFINE), axcodes2ornt(codes)))
    nib.save(turned, tmp_path / "m.nii.gz")
    assert np.array_equal(_read(tmp_path / "m.nii.gz"), LESION > 0)


def test_a_part_of_the_scan(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] = (AFFINE @ [1, 8, 2, 1])[:3]
    path = _save(tmp_path / "m.nii", LESION[1:8, 8:, 2:], affine)
    assert np.array_equal(_read(path), LESION > 0)


def test_a_finer_and_a_coarser_grid(tmp_path: Path) -> None:
    finer = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    finer[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    fine = LESION.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert np.array_equal(_read(_save(tmp_path / "fine.nii", fine, finer)), LESION > 0)
    whole = _read(_save(tmp_path / "coarse.nii", LESION, AFFINE), finer, tuple(2 * size for size in SHAPE))
    assert np.array_equal(whole, fine > 0)


def test_a_turned_grid_by_a_plain_computation(tmp_path: Path) -> None:
    angle = np.radians(30)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ AFFINE
    read = _read(_save(tmp_path / "m.nii", LESION, affine))
    expected = np.zeros(SHAPE, dtype=bool)
    for index in np.ndindex(*SHAPE):
        place = np.linalg.inv(affine) @ AFFINE @ [*index, 1]
        nearest = np.floor(place[:3] + 0.5).astype(int)
        if (nearest >= 0).all() and (nearest < SHAPE).all():
            expected[index] = LESION[tuple(nearest)]
    assert expected.any() and np.array_equal(read, expected)


def test_a_lesion_between_the_voxels_marks_the_one_it_lies_in(tmp_path: Path) -> None:
    fine = np.zeros([4 * size for size in SHAPE], dtype=np.uint8)
    fine[13, 22, 31] = 1
    affine = AFFINE @ np.diag([0.25, 0.25, 0.25, 1])
    read = _read(_save(tmp_path / "m.nii", fine, affine))
    assert np.argwhere(read).tolist() == [[3, 6, 8]]  # 13 / 4 and so on, to the nearest


def test_rounding_of_a_file_is_no_other_grid(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[:3, 3] += (0.9, -1.4, 1.9)  # less than half a voxel
    assert np.array_equal(_read(_save(tmp_path / "m.nii", LESION, affine)), LESION > 0)


@pytest.mark.parametrize("values", [LESION, np.zeros_like(LESION)])
def test_a_mask_elsewhere_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += 500
    path = _save(tmp_path / "far.nii.gz", values, affine)
    said = (
        r"the mask lies elsewhere than its scan: .*far\.nii\.gz of case scan7 \(expected 12 x 16 x 10 voxels from "
        r"\(-20, -30, 5\) to \(2, 15, 41\) mm, found 12 x 16 x 10 voxels from \(480, -30, 5\) to \(502, 15, 41\) mm\)"
    )
    with pytest.raises(InputError, match=said):
        _read(path)


def test_an_empty_mask_of_another_grid_is_empty(tmp_path: Path) -> None:
    assert not _read(_save(tmp_path / "m.nii", np.zeros((5, 5, 5), np.uint8), AFFINE)).any()


@pytest.mark.parametrize("affine", [None, np.eye(4)])
def test_a_mask_that_lies_nowhere_must_have_the_scans_shape(
    tmp_path: Path, affine: np.ndarray | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        read = _read(_save(tmp_path / "m.nii", LESION, affine))
    assert np.array_equal(read, LESION > 0)
    assert "m.nii of case scan7 does not say where it lies" in caplog.text
    path = _save(tmp_path / "short.nii", LESION[:-1], affine)
    with pytest.raises(
        InputError, match=r"the mask does not say where it lies: .*expected 12 x 16 x 10, found 11 x 16"
    ):
        _read(path)


def test_a_scan_that_lies_nowhere(tmp_path: Path) -> None:
    assert np.array_equal(_read(_save(tmp_path / "m.nii", LESION, AFFINE), None), LESION > 0)
    with pytest.raises(InputError, match=r"its scan does not say where it lies"):
        _read(_save(tmp_path / "short.nii", LESION[:-1], AFFINE), None)


def test_slices(tmp_path: Path) -> None:
    """A mask of one slice, of a whole volume, and one of another slice."""
    slice_affine = AFFINE.copy()
    slice_affine[:3, 3] = (AFFINE @ [0, 0, 4, 1])[:3]
    truth = LESION[..., 4] > 0
    flip = nib.Nifti1Image(LESION[..., 4:5], slice_affine).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
    nib.save(flip, tmp_path / "flipped.nii")
    _save(tmp_path / "whole.nii", LESION, AFFINE)
    for name in ("flipped.nii", "whole.nii"):
        assert np.array_equal(_read(tmp_path / name, slice_affine, SHAPE[:2]), truth), name
    with pytest.raises(InputError, match="lies elsewhere"):
        _read(_save(tmp_path / "next.nii", LESION[..., 4:5], AFFINE), slice_affine, SHAPE[:2])
    # and the slab of a volume's middle
    read = _read(_save(tmp_path / "slab.nii", LESION[..., 4:5], slice_affine))
    assert np.array_equal(read[..., 4], truth) and read.sum() == truth.sum()


def test_what_says_where_it_lies(tmp_path: Path) -> None:
    Image.fromarray(LESION[..., 4] * np.uint8(255)).save(tmp_path / "a.png")
    pixels = np.arange(192, dtype=np.uint8).reshape(12, 16)
    dicom_image(pixels).save_as(tmp_path / "film.dcm", enforce_file_format=True)
    place = {"ImagePositionPatient": [1, 2, 3], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [2, 2]}
    dicom_image(pixels, **place).save_as(tmp_path / "slice.dcm", enforce_file_format=True)
    _save(tmp_path / "unit.nii", LESION, np.eye(4))
    _save(tmp_path / "placed.nii", LESION, AFFINE)
    nib.save(nib.Nifti1Image(LESION, None), tmp_path / "none.nii")
    names = ("a.png", "film.dcm", "slice.dcm", "unit.nii", "placed.nii", "none.nii")
    said = [read_scan(tmp_path / name).has_geometry for name in names]
    assert said == [False, False, True, False, True, False]


def _with_forms(path: Path, values: np.ndarray, sform: np.ndarray | None, qform: np.ndarray | None) -> Path:
    image = nib.Nifti1Image(values, None)
    image.set_sform(sform, 0 if sform is None else 4)
    image.set_qform(qform, 0 if qform is None else 1)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("flips", [False, True])
def test_a_mask_that_has_the_other_affine_of_its_scan(tmp_path: Path, flips: bool) -> None:
    """As ITK's programs write it: they see a scan by its qform, we by its sform."""
    template = np.array([[1.9, 0.3, 0, -80], [-0.3, 2.9, 0, -110], [0, 0, 4.2, -60], [0, 0, 0, 1]])
    scan = _with_forms(tmp_path / "scan.nii.gz", np.zeros(SHAPE, np.uint8), template, AFFINE)
    own = read_scan(scan).affine
    np.testing.assert_allclose(own, template, atol=1e-5)
    values, affine = LESION, AFFINE
    if flips:
        values, affine = LESION[::-1].copy(), AFFINE @ np.array([[-1, 0, 0, 11], *np.eye(4)[1:]])
    by_itk = _with_forms(tmp_path / "itk.nii.gz", values, affine, affine)
    by_both = _with_forms(tmp_path / "both.nii.gz", LESION, template, AFFINE)
    for path in (by_itk, by_both):
        assert np.array_equal(read_mask(path, SHAPE, "c", own, scan), LESION > 0), path.name
    # without the scan's file its sform counts alone
    with pytest.raises(InputError, match="lies elsewhere"):
        read_mask(by_itk, SHAPE, "c", own)


def test_the_mask_of_a_case(tmp_path: Path) -> None:
    path = _save(tmp_path / "m.nii", LESION[::-1].copy(), AFFINE @ np.array([[-1, 0, 0, 11], *np.eye(4)[1:]]))
    anomaly_map = MetaTensor(torch.zeros(1, *SHAPE), affine=torch.as_tensor(AFFINE))
    image = MetaTensor(torch.zeros(1, 4, 4, 4))
    case = {"mask": str(path), "case_id": "c", "image": image, "anomaly_map": anomaly_map}
    assert np.array_equal(read_mask_of(case), LESION > 0)
    image.meta["has_geometry"] = False
    assert np.array_equal(read_mask_of(case), LESION[::-1] > 0)

"""The series behind a scan: which frame became which slice, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_studies import write_enhanced, write_exam
from scan_samples import AXIAL, OBLIQUE, SECRETS

from medad_plugins.data.dicom_series import dicom_files, read_dicom_scan
from medad_plugins.dicom_results import SourceSeries
from medad_plugins.errors import InputError


def _volume(slices: int = 9) -> np.ndarray:
    return np.random.RandomState(slices).randint(0, 3000, (slices, 10, 12)).astype(np.uint16)


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_frames_of_the_scan_are_the_pixels_of_the_images(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    write_exam(tmp_path, _volume(), orientation=orientation)
    scan = read_dicom_scan(tmp_path)
    source = SourceSeries.read(tmp_path, scan.affine, scan.array.shape)
    files = {pydicom.dcmread(path).SOPInstanceUID: path for path in dicom_files(tmp_path)}
    frames = source.frames(scan.array[None])
    assert len(frames) == len(source.images) == 9
    assert not source.is_multi_frame
    for image, frame in zip(source.images, frames, strict=True):
        np.testing.assert_array_equal(frame, pydicom.dcmread(files[image.SOPInstanceUID]).pixel_array)


def test_frames_of_a_multi_frame_file_come_in_its_own_order(tmp_path: Path) -> None:
    volume = _volume()
    path = write_enhanced(tmp_path / "enhanced.dcm", volume)
    scan = read_dicom_scan(path)
    source = SourceSeries.read(path, scan.affine, scan.array.shape)
    assert source.is_multi_frame
    assert source.slices == tuple(range(8, -1, -1))
    np.testing.assert_array_equal(source.frames(scan.array[None]), volume)


def test_a_single_image_is_one_frame(tmp_path: Path) -> None:
    path = write_exam(tmp_path, _volume(1))[0]
    scan = read_dicom_scan(path)
    source = SourceSeries.read(path, scan.affine, scan.array.shape)
    np.testing.assert_array_equal(source.frames(scan.array[None])[0], pydicom.dcmread(path).pixel_array)


def test_the_files_may_be_given_one_by_one(tmp_path: Path) -> None:
    files = write_exam(tmp_path, _volume())
    scan = read_dicom_scan(tmp_path)
    assert len(SourceSeries.read(files[::-1], scan.affine, scan.array.shape).images) == 9


def test_pixels_are_not_kept(tmp_path: Path) -> None:
    write_exam(tmp_path, _volume())
    scan = read_dicom_scan(tmp_path)
    assert not any("PixelData" in image for image in SourceSeries.read(tmp_path, scan.affine, scan.array.shape).images)


@pytest.mark.parametrize("shift", [(0.0, 0.0, 5.0), (1.0, 0.0, 0.0), (0.0, 0.0, np.nan)])
def test_another_grid_is_refused(tmp_path: Path, shift: tuple[float, ...]) -> None:
    write_exam(tmp_path, _volume())
    scan = read_dicom_scan(tmp_path)
    affine = scan.affine.copy()
    affine[:3, 3] += np.nan_to_num(shift)
    shape = scan.array.shape if np.isfinite(shift).all() else (*scan.array.shape[:2], 8)
    with pytest.raises(InputError, match="the scan is not (on the grid of )?the DICOM series"):
        SourceSeries.read(tmp_path, affine, shape)


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"SOPInstanceUID": "1.2.3"}, "several DICOM files bear the same identifier"),
        ({"FrameOfReferenceUID": ""}, "no frame of reference"),
        ({"StudyInstanceUID": ""}, "cannot refer to this file.*found no StudyInstanceUID"),
    ],
)
def test_what_a_result_cannot_refer_to(tmp_path: Path, elements: dict[str, Any], message: str) -> None:
    write_exam(tmp_path, _volume(), **elements)
    scan = read_dicom_scan(tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        SourceSeries.read(tmp_path, scan.affine, scan.array.shape)
    assert not [secret for secret in SECRETS.values() if secret in str(raised.value)]


def test_what_is_no_dicom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a DICOM file"):
        SourceSeries.read(tmp_path, np.eye(4), (3, 3, 3))
    (tmp_path / "scan.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="truncated or damaged|cannot refer to this file"):
        SourceSeries.read(tmp_path / "scan.png", np.eye(4), (3, 3))

"""DICOM series: the volume and affine of good ones, the sentence for bad ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from monai.data import PydicomReader
from pydicom.dataset import Dataset
from scan_samples import AXIAL, OBLIQUE, SECRETS, dicom_image, frame_groups, write_series

from medad_plugins.data.dicom_series import read_dicom_scan, read_series
from medad_plugins.errors import InputError


def _volume(slices: int = 6, rows: int = 9, columns: int = 12) -> np.ndarray:
    return np.random.RandomState(slices).randint(0, 3000, (slices, rows, columns)).astype(np.int16)


def _monai(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = PydicomReader()
    array, meta = reader.get_data(reader.read(str(folder)))
    return array, meta["affine"]


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
def test_volume_and_affine_are_those_of_monai(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    volume = _volume()
    write_series(tmp_path, volume, orientation, RescaleSlope=2, RescaleIntercept=-1000)
    array, affine = read_series(tmp_path)
    expected_array, expected_affine = _monai(tmp_path)
    np.testing.assert_array_equal(array, expected_array)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-9)
    np.testing.assert_array_equal(array, volume.transpose(2, 1, 0) * 2.0 - 1000)


@pytest.mark.parametrize("name", ["pgbm003_flair", "hippocrop_mr"])
def test_real_series_equal_those_of_monai(shared_data: Path, name: str) -> None:
    array, affine = read_series(shared_data / "dicom" / name)
    expected_array, expected_affine = _monai(shared_data / "dicom" / name)
    np.testing.assert_array_equal(array, expected_array)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-9)


def test_affine_places_every_voxel(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(), OBLIQUE, spacing=(2.0, 1.5))
    affine = read_series(tmp_path)[1]
    across, down = np.array(OBLIQUE[:3]), np.array(OBLIQUE[3:])
    lps = np.array([-40.0, 10.0, 5.0]) + 4 * 1.5 * across + 7 * 2.0 * down + 2 * 3.0 * np.cross(across, down)
    np.testing.assert_allclose((affine @ [4, 7, 2, 1])[:3], lps * [-1, -1, 1], atol=1e-6)


def test_slices_are_ordered_by_position_not_by_instance_number(tmp_path: Path) -> None:
    volume = _volume()
    paths = write_series(tmp_path, volume)
    for number, path in zip([4, 1, 6, 2, 5, 3], paths, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path)
    np.testing.assert_array_equal(read_series(tmp_path)[0], volume.transpose(2, 1, 0))


def test_every_slice_has_its_own_rescale_slope(tmp_path: Path) -> None:
    volume = _volume(4)
    for index, path in enumerate(write_series(tmp_path, volume)):
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = 1 + index, 0
        dataset.save_as(path)
    scan = read_dicom_scan(tmp_path)
    np.testing.assert_allclose(scan.array, volume.transpose(2, 1, 0) * np.array([1.0, 2, 3, 4]))
    assert scan.stored_bits == 32


def test_padding_takes_the_lowest_measured_value_of_the_volume(tmp_path: Path) -> None:
    volume = _volume(3) + 10
    lowest = int(volume.min())
    volume[:, :2, :2] = -2000
    write_series(tmp_path, volume, PixelPaddingValue=-2000)
    array, _ = read_series(tmp_path)
    assert (array[:2, :2] == lowest).all() and array.min() == lowest


def test_other_files_in_the_folder_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path, _volume())
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.dcm").write_text("not an image")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert read_series(tmp_path)[0].shape == (12, 9, 6)


def test_missing_slice(tmp_path: Path) -> None:
    paths = write_series(tmp_path, _volume(8))
    paths[3].unlink()
    with pytest.raises(InputError, match=r"1 missing slice \(a gap of 6\.00 mm after slice 3 .* step is 3\.00 mm"):
        read_series(tmp_path)


def _file_of_instance(folder: Path, number: int) -> Path:
    return next(path for path in folder.iterdir() if pydicom.dcmread(path).InstanceNumber == number)


def test_missing_slice_of_a_real_series(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "series"
    shutil.copytree(shared_data / "dicom" / "pgbm003_flair", folder)
    _file_of_instance(folder, 12).unlink()
    with pytest.raises(InputError, match=r"1 missing slice \(a gap of 13\.00 mm after slice 11 .* 6\.50 mm"):
        read_series(folder)


def test_uneven_gaps(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(5), offsets=[0, 3, 6, 10, 13.5])
    with pytest.raises(InputError, match=r"uneven gaps of 3\.00 to 4\.00 mm"):
        read_series(tmp_path)


def test_positions_rounded_in_the_header_are_accepted(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(9), offsets=[round(0.625 * index, 1) for index in range(9)])
    assert np.linalg.norm(read_series(tmp_path)[1][:, 2]) == pytest.approx(0.625)


def test_gantry_tilt(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(), OBLIQUE, step=(0, 0, 1))
    with pytest.raises(InputError, match=r"a gantry tilt of 25\.0 degrees.*dcm2niix"):
        read_series(tmp_path)


def test_real_ct_is_refused_for_tilt_and_gaps(shared_data: Path) -> None:
    with pytest.raises(InputError, match=r"a gantry tilt of 18\.5 degrees and uneven gaps of 1\.08 to 7\.00 mm"):
        read_series(shared_data / "dicom" / "ct_ge_tilt_rle")


def test_slices_shifted_sideways(tmp_path: Path) -> None:
    paths = write_series(tmp_path, _volume())
    dataset = pydicom.dcmread(paths[2])
    dataset.ImagePositionPatient[0] += 4.0
    dataset.save_as(paths[2])
    with pytest.raises(InputError, match=r"shifted sideways by up to 4\.00 mm"):
        read_series(tmp_path)


def test_mixed_series(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(6), SeriesInstanceUID="1.2.3")
    for path in write_series(tmp_path / "more", _volume(4), SeriesInstanceUID="1.2.4"):
        shutil.move(path, tmp_path / f"more_{path.name}")
    with pytest.raises(InputError, match="mixes DICOM series.*2 series of 6, 4 files") as caught:
        read_series(tmp_path)
    assert "1.2.4" not in str(caught.value)


def test_two_slices_at_one_position(tmp_path: Path) -> None:
    write_series(tmp_path, _volume(6), offsets=[0, 0, 3, 3, 6, 6])
    with pytest.raises(InputError, match="6 slices at 3 positions"):
        read_series(tmp_path)


def _change(path: Path, **elements: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ImageOrientationPatient": list(OBLIQUE)}, r"not parallel.*turned by 25\.0 degrees"),
        ({"PixelSpacing": [2.0, 2.0]}, r"differ in pixel spacing.*2 x 1\.5 mm"),
        ({"ImagePositionPatient": None}, "is no slice of a volume"),
        ({"ImageOrientationPatient": [1.0, 0, 0, 1, 0, 0]}, "is no slice of a volume"),
        ({"PixelSpacing": [0.0, 0.0]}, "is no slice of a volume"),
        ({"Modality": "SEG"}, "found a segmentation"),
    ],
)
def test_one_slice_that_does_not_fit(tmp_path: Path, change: dict[str, object], message: str) -> None:
    _change(write_series(tmp_path, _volume())[4], **change)
    with pytest.raises(InputError, match=message):
        read_series(tmp_path)


def test_slices_of_different_size(tmp_path: Path) -> None:
    paths = write_series(tmp_path, _volume())
    _change(paths[0], Rows=3, Columns=36)
    with pytest.raises(InputError, match="differ in size.*12 x 9 and 36 x 3"):
        read_series(tmp_path)


def test_truncated_slice_is_named(tmp_path: Path) -> None:
    paths = write_series(tmp_path, _volume())
    paths[2].write_bytes(paths[2].read_bytes()[:-50])
    with pytest.raises(InputError, match=f"truncated or damaged.*{paths[2].name}"):
        read_series(tmp_path)


def test_folder_without_dicom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no DICOM file"):
        read_series(tmp_path)


def _enhanced(volume: np.ndarray, heights: list[float], **elements: object) -> pydicom.FileDataset:
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing = [2.0, 1.5]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    return dicom_image(
        volume,
        NumberOfFrames=len(volume),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[
            frame_groups((0, 0, height), slope=index + 1.0) for index, height in enumerate(heights)
        ],
        **elements,
    )


def test_multi_frame_file_is_a_volume_where_its_frames_have_places(tmp_path: Path) -> None:
    volume = _volume(4)
    path = tmp_path / "enhanced.dcm"
    _enhanced(volume, [9.0, 6.0, 3.0, 0.0]).save_as(path, enforce_file_format=True)
    scan = read_dicom_scan(path)
    # frames come in falling order; slices go along the normal, each with its own frame's slope
    expected = (volume * np.array([1.0, 2, 3, 4])[:, None, None])[::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(scan.array, expected)
    np.testing.assert_allclose(scan.affine, np.diag([-1.5, -2.0, 3.0, 1.0]))


def test_multi_frame_file_with_a_missing_frame(tmp_path: Path) -> None:
    path = tmp_path / "enhanced.dcm"
    _enhanced(_volume(4), [0.0, 3.0, 9.0, 12.0]).save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match=r"1 missing slice \(a gap of 6\.00 mm"):
        read_dicom_scan(path)


def test_multi_frame_file_without_places(tmp_path: Path) -> None:
    path = tmp_path / "cine.dcm"
    dicom_image(_volume(4), NumberOfFrames=4).save_as(path, enforce_file_format=True)
    with pytest.raises(InputError, match="multi-frame DICOM file is no volume.*4 frames"):
        read_dicom_scan(path)


def test_no_message_names_the_patient(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    write_series(bad, _volume(5), offsets=[0, 3, 6, 10, 13.5])
    _change(write_series(tmp_path / "no_place", _volume())[0], ImagePositionPatient=None)
    for folder in (bad, tmp_path / "no_place"):
        with pytest.raises(InputError) as caught:
            read_series(folder)
        assert not [secret for secret in SECRETS.values() if secret in str(caught.value)]


def test_no_warning_names_the_patient_where_elements_are_invalid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    invalid = "1.2.LEAK"
    paths = write_series(tmp_path, _volume(3), SeriesInstanceUID=invalid, SOPInstanceUID=invalid, PatientID="LEAK" * 40)
    for path in paths:
        path.write_bytes(path.read_bytes().replace(SECRETS["SOPInstanceUID"].encode(), b"1.2.826.0.LEAK0"))
    recwarn.clear()
    caplog.clear()
    caplog.set_level("DEBUG")
    assert read_series(tmp_path)[0].shape == (12, 9, 3)
    said = [str(warning.message) for warning in recwarn] + [record.getMessage() for record in caplog.records]
    assert not [text for text in said if "LEAK" in text]

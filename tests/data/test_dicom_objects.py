"""The standard's objects and series: functional groups, files that belong together, values that are missing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_files import GREY, made_item, read, save
from scan_samples import AXIAL, dicom_image, write_series

from medad_plugins.data import find_scans, read_scan
from medad_plugins.data.dicom_series import read_dicom_scan
from medad_plugins.errors import InputError

# ---- functional groups

SHARED_OR_OWN = [(shared, frames) for shared in (True, False) for frames in (1, 4)]


def _enhanced(frames: int, is_shared: bool, is_last_first: bool = False) -> tuple[pydicom.FileDataset, np.ndarray]:
    volume = np.random.RandomState(frames).randint(0, 900, (frames, 9, 12)).astype(np.uint16)
    order = list(range(frames))[::-1] if is_last_first else list(range(frames))
    common = {
        "PlaneOrientationSequence": [made_item(ImageOrientationPatient=list(AXIAL))],
        "PixelMeasuresSequence": [made_item(PixelSpacing=[2.0, 3.0], SliceThickness=5.0)],
    }
    own = []
    for place in order:
        groups = made_item(
            PlanePositionSequence=[made_item(ImagePositionPatient=[-10.0, 20.0, 35.0 + 4 * place])],
            **({} if is_shared else {key: list(value) for key, value in common.items()}),
        )
        slope = 1.0 if is_shared else 1.0 + place
        if not is_shared:
            groups.PixelValueTransformationSequence = [made_item(RescaleSlope=slope, RescaleIntercept=-1024.0)]
        own.append(groups)
    shared = made_item(**common) if is_shared else made_item()
    if is_shared:
        shared.PixelValueTransformationSequence = [made_item(RescaleSlope=1.0, RescaleIntercept=-1024.0)]
    dataset = dicom_image(
        volume[order],
        NumberOfFrames=frames,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=own,
    )
    slopes = np.ones(frames) if is_shared else 1.0 + np.arange(frames)
    return dataset, volume * slopes[:, None, None] - 1024


@pytest.mark.parametrize(("is_shared", "frames"), SHARED_OR_OWN)
@pytest.mark.parametrize("is_last_first", [False, True])
def test_enhanced_objects(tmp_path: Path, is_shared: bool, frames: int, is_last_first: bool) -> None:
    dataset, expected = _enhanced(frames, is_shared, is_last_first)
    scan = read_dicom_scan(save(tmp_path / "a.dcm", dataset))
    np.testing.assert_array_equal(scan.array, expected[0].T if frames == 1 else expected.transpose(2, 1, 0))
    affine = np.diag([-3.0, -2.0, 5.0 if frames == 1 else 4.0, 1.0])
    affine[:3, 3] = 10, -20, 35
    np.testing.assert_allclose(scan.affine, affine)


def test_enhanced_objects_of_one_frame_make_a_series(tmp_path: Path) -> None:
    volumes = []
    for place in range(5):
        dataset, expected = _enhanced(1, place % 2 == 0)
        dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [-10, 20, 3 * place]
        volumes.append(expected[0].T)
        save(tmp_path / f"IM{9 - place}", dataset)
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.array, np.stack(volumes, axis=-1))
    np.testing.assert_allclose(np.abs(np.diag(scan.affine)), [3, 2, 3, 1])
    assert find_scans(tmp_path) == [tmp_path]


@pytest.mark.parametrize("change", ["time", "two stacks", "fewer groups", "no measures"])
def test_frames_that_make_no_volume(tmp_path: Path, change: str) -> None:
    dataset, _ = _enhanced(4, False)
    groups = dataset.PerFrameFunctionalGroupsSequence
    if change == "time":
        for frame in (1, 3):
            groups[frame].PlanePositionSequence = groups[frame - 1].PlanePositionSequence
    elif change == "two stacks":
        groups[3].PlaneOrientationSequence = [made_item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]
    elif change == "fewer groups":
        del groups[3]
    else:
        del groups[2].PixelMeasuresSequence
    with pytest.raises(InputError, match="same position|not parallel|is no volume"):
        read_dicom_scan(save(tmp_path / "a.dcm", dataset))


# ---- series of files

VOLUME = np.random.RandomState(3).randint(0, 900, (6, 9, 12)).astype(np.uint16)


def test_files_without_a_suffix(tmp_path: Path) -> None:
    for index, path in enumerate(write_series(tmp_path, VOLUME)):
        path.rename(tmp_path / (f"IM{index:06d}" if index % 2 else f"1.2.826.0.77.{index}"))
    np.testing.assert_array_equal(read_scan(tmp_path).array, VOLUME.transpose(2, 1, 0))


@pytest.mark.parametrize("where", [0, 3, 5])
@pytest.mark.parametrize("suffix", [".dcm", ""])
@pytest.mark.parametrize("length", [0, 100, 300, -40])
def test_a_damaged_file_in_a_series_is_named(tmp_path: Path, where: int, suffix: str, length: int) -> None:
    paths = [path.rename(path.with_suffix(suffix)) for path in write_series(tmp_path, VOLUME)]
    paths[where].write_bytes(paths[where].read_bytes()[:length])
    with pytest.raises(InputError, match=paths[where].name):
        read_scan(tmp_path)


def test_texts_beside_a_series_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in write_series(tmp_path, VOLUME):
        path.rename(path.with_suffix(""))
    (tmp_path / "README").write_text("Grüße, no slice")
    (tmp_path / "viewer.exe").write_bytes(b"MZ\0\0")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert find_scans(tmp_path) == [tmp_path]
    np.testing.assert_array_equal(read_scan(tmp_path).array, VOLUME.transpose(2, 1, 0))
    assert "README" in caplog.text or "viewer.exe" in caplog.text or not caplog.records


def test_a_directory_file_is_no_image(tmp_path: Path) -> None:
    dataset = dicom_image(GREY)
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.UID("1.2.840.10008.1.3.10")
    del dataset.PixelData, dataset.Rows
    path = tmp_path / "DICOMDIR"
    pydicom.dcmwrite(path, dataset)
    with pytest.raises(InputError, match="a DICOMDIR, an index of files"):
        read_scan(path)


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 100", ["", "ISO 2022 IR 87"], "GB18030", "unheard of", ""])
def test_character_sets_do_not_matter(tmp_path: Path, charset: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dicom_image(GREY, SpecificCharacterSet=charset, PatientName="Doe")
        np.testing.assert_array_equal(read(tmp_path, dataset).T, GREY)


@pytest.mark.parametrize(
    "keyword", ["Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation"]
)
def test_what_describes_pixels_must_be_there(tmp_path: Path, keyword: str) -> None:
    dataset = dicom_image(GREY)
    delattr(dataset, keyword)
    with pytest.raises(InputError, match=f"does not describe its pixels.*no {keyword}|holds no image|photometric"):
        read(tmp_path, dataset)


@pytest.mark.parametrize(
    "keyword",
    ["Modality", "SeriesInstanceUID", "SliceThickness", "NumberOfFrames", "RescaleSlope", "PixelPaddingValue"]
    + ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "HighBit", "ModalityLUTSequence"],
)
def test_empty_values(tmp_path: Path, keyword: str) -> None:
    dataset = dicom_image(
        GREY, ImagePositionPatient=[0, 0, 0], ImageOrientationPatient=list(AXIAL), PixelSpacing=[2, 2], SliceThickness=3
    )
    setattr(dataset, keyword, None)
    np.testing.assert_array_equal(read(tmp_path, dataset).T, GREY)


@pytest.mark.parametrize("value", ["", "0", "-3", "nan", "inf"])
def test_a_thickness_that_is_none(tmp_path: Path, value: str) -> None:
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": list(AXIAL), "PixelSpacing": [2, 2]}
    dataset = dicom_image(GREY, **place)
    with pydicom.config.disable_value_validation():
        dataset.add_new("SliceThickness", "DS", value)
        scan = read_dicom_scan(save(tmp_path / "a.dcm", dataset))
    np.testing.assert_allclose(np.diag(scan.affine), [-2, -2, 1, 1])


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_spacing_of_an_image_without_a_place(tmp_path: Path, keyword: str) -> None:
    scan = read_dicom_scan(save(tmp_path / "a.dcm", dicom_image(GREY, **{keyword: [0.5, 0.25]})))
    np.testing.assert_allclose(np.diag(scan.affine), [-0.25, -0.5, 1, 1])


def test_more_pixels_than_the_header_describes(tmp_path: Path) -> None:
    dataset = dicom_image(GREY, Rows=8)
    with pytest.raises(InputError, match="more pixels than its header describes"):
        read(tmp_path, dataset)
    dataset = dicom_image(GREY)
    dataset.PixelData += b"\0\0"  # a writer's padding
    np.testing.assert_array_equal(read(tmp_path, dataset).T, GREY)


def test_floating_point_pixels_are_no_image(tmp_path: Path) -> None:
    dataset = dicom_image(GREY)
    del dataset.PixelData
    dataset.FloatPixelData = GREY.astype(np.float32).tobytes()
    dataset.BitsAllocated = 32
    with pytest.raises(InputError, match="a parametric map"):
        read(tmp_path, dataset)

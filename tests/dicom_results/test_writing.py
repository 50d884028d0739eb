"""The objects of a case: read back by highdicom, laid over their series, checked by dciodvfy where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_studies import SPACING, case_of, complete, write_enhanced, write_exam
from PIL import Image
from pydicom.uid import ComputedRadiographyImageStorage
from scan_samples import SECRETS, dicom_image

from medad_plugins.data.dicom_series import dicom_files
from medad_plugins.dicom_results import FILE_NAMES, Algorithm, SourceSeries, write_dicom_results
from medad_plugins.errors import InputError

hd: Any = pytest.importorskip("highdicom", reason="DICOM results need highdicom")

ALGORITHM = Algorithm("Method", "1.2.3")


def _volume(slices: int = 9) -> np.ndarray:
    return np.random.RandomState(slices).randint(0, 3000, (slices, 10, 12)).astype(np.uint16)


def _write(path: Path, case: dict[str, Any], folder: Path) -> dict[str, Path]:
    anomaly_map = case["anomaly_map"]
    source = SourceSeries.read(path, np.asarray(anomaly_map.affine), anomaly_map.shape[1:])
    return write_dicom_results(case, source, ALGORITHM, Image.new("RGB", (40, 30), "red"), (0.0, 1.0), folder)


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    write_exam(tmp_path / "exam", _volume())
    return tmp_path / "exam"


def _by_position(exam: Path, values: np.ndarray) -> dict[tuple[float, ...], tuple[str, np.ndarray]]:
    """Of every source image, by its position: its identifier and its ``(rows, columns)`` of values."""
    datasets = [pydicom.dcmread(path) for path in dicom_files(exam)]
    normal = np.cross(datasets[0].ImageOrientationPatient[:3], datasets[0].ImageOrientationPatient[3:])
    datasets.sort(key=lambda one: float(np.dot(normal, one.ImagePositionPatient)))
    return {
        tuple(float(value) for value in one.ImagePositionPatient): (one.SOPInstanceUID, values[0, :, :, index].T)
        for index, one in enumerate(datasets)
    }


def _check_frames(result: Any, expected: dict[tuple[float, ...], tuple[str, np.ndarray]]) -> int:
    """Every frame lies where one source image does, refers to that image, and holds its values."""
    shared = result.SharedFunctionalGroupsSequence[0]
    np.testing.assert_allclose(shared.PixelMeasuresSequence[0].PixelSpacing, SPACING)
    frames = result.pixel_array.reshape(-1, result.Rows, result.Columns)
    for frame, groups in zip(frames, result.PerFrameFunctionalGroupsSequence, strict=True):
        place = tuple(float(value) for value in groups.PlanePositionSequence[0].ImagePositionPatient)
        identifier, values = expected[place]
        referenced = groups.DerivationImageSequence[0].SourceImageSequence
        assert [item.ReferencedSOPInstanceUID for item in referenced] == [identifier]
        np.testing.assert_array_equal(frame, values)
    return len(frames)


def test_the_region_lies_on_the_oblique_series(exam: Path, tmp_path: Path) -> None:
    case = case_of(exam)
    region = hd.seg.segread(_write(exam, case, tmp_path)["region"])
    source = pydicom.dcmread(dicom_files(exam)[0])
    assert source.FrameOfReferenceUID == region.FrameOfReferenceUID
    assert source.StudyInstanceUID == region.StudyInstanceUID
    assert source.SeriesInstanceUID == region.ReferencedSeriesSequence[0].SeriesInstanceUID != region.SeriesInstanceUID
    orientation = region.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(orientation, source.ImageOrientationPatient, atol=1e-6)
    marked = case["anomaly_mask"].numpy()
    # the last two slices have nothing marked and no frame
    assert _check_frames(region, _by_position(exam, marked)) == 7
    assert region.pixel_array.sum() == marked.sum() > 0


def test_the_map_is_the_map(exam: Path, tmp_path: Path) -> None:
    case = case_of(exam)
    parametric = hd.imread(_write(exam, case, tmp_path)["map"])
    assert parametric.pixel_array.dtype == np.float32
    assert _check_frames(parametric, _by_position(exam, case["anomaly_map"].numpy())) == 9
    mapping = parametric.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)


def test_a_multi_frame_series_gets_its_frames_in_place(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "enhanced" / "a.dcm", _volume())
    case = case_of(path)
    parametric = hd.imread(_write(path, case, tmp_path)["map"])
    heights = {}
    for frame, groups in zip(parametric.pixel_array, parametric.PerFrameFunctionalGroupsSequence, strict=True):
        heights[round(float(groups.PlanePositionSequence[0].ImagePositionPatient[2]))] = frame
        item = groups.DerivationImageSequence[0].SourceImageSequence[0]
        assert -3 * (item.ReferencedFrameNumber - 1) == groups.PlanePositionSequence[0].ImagePositionPatient[2]
    expected = case["anomaly_map"].numpy()[0]
    for index in range(9):
        np.testing.assert_array_equal(heights[-24 + 3 * index], expected[:, :, index].T)


def test_the_report_says_score_p_value_decision_and_version(exam: Path, tmp_path: Path) -> None:
    case = case_of(exam)
    written = _write(exam, case, tmp_path)
    document = hd.sr.srread(written["report"])
    group = document.content.get_image_measurement_groups()[0]
    figures = {item.name.value: item.value for item in group.get_measurements()}
    expected = {"anomaly_score": 0.987654321, "C44185": 0.04, "alpha": 0.05, "calibrated_on": 40}
    assert figures == pytest.approx(expected)
    assert [item.value.value for item in group.get_qualitative_evaluations()] == ["flagged"]
    region = document.content.get_volumetric_roi_measurement_groups()[0]
    volume = region.get_measurements()[0]
    assert (volume.unit.value, volume.value) == ("mm3", pytest.approx(9.0 * int(case["anomaly_mask"].sum())))
    referenced = region.referenced_segment.referenced_sop_instance_uid
    assert referenced == pydicom.dcmread(written["region"]).SOPInstanceUID
    assert "1.2.3" in str(document)
    assert len({item.referenced_sop_instance_uid for item in group.source_images}) == 9


def test_the_picture_is_a_secondary_capture_of_the_study(exam: Path, tmp_path: Path) -> None:
    picture = pydicom.dcmread(_write(exam, case_of(exam), tmp_path)["picture"])
    assert picture.SOPClassUID.name == "Secondary Capture Image Storage"
    np.testing.assert_array_equal(picture.pixel_array, np.full((30, 40, 3), (255, 0, 0)))
    assert (picture.PatientID, len(picture.SourceImageSequence)) == (SECRETS["PatientID"], 9)


def test_a_scan_that_is_not_flagged_has_no_finding(exam: Path, tmp_path: Path) -> None:
    """What is above the threshold stays to be looked at, under a name that says so."""
    case = case_of(exam) | {"is_anomalous": False, "p_value": 0.4}
    written = _write(exam, case, tmp_path)
    document = hd.sr.srread(written["report"])
    decision = document.content.get_image_measurement_groups()[0].get_qualitative_evaluations()
    assert [item.value.value for item in decision] == ["not_flagged"]
    assert document.content.get_volumetric_roi_measurement_groups() == []
    assert "Finding" not in str(document) and "esion" not in str(document)
    (segment,) = pydicom.dcmread(written["region"]).SegmentSequence
    assert segment.SegmentLabel == "not flagged, p 0.4"
    assert "map" in written


def test_a_flagged_scan_has_a_region_that_is_no_lesion(exam: Path, tmp_path: Path) -> None:
    written = _write(exam, case_of(exam), tmp_path)
    (segment,) = pydicom.dcmread(written["region"]).SegmentSequence
    assert segment.SegmentLabel == "anomaly, p 0.04"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "region"
    (group,) = hd.sr.srread(written["report"]).content.get_volumetric_roi_measurement_groups()
    assert group.finding_type.value == "region"


def test_a_report_says_where_nothing_can_be_flagged(exam: Path, tmp_path: Path) -> None:
    case = case_of(exam) | {"is_anomalous": False, "p_value": 0.25, "calibrated_on": 3, "can_flag": False}
    written = _write(exam, case, tmp_path)
    group = hd.sr.srread(written["report"]).content.get_image_measurement_groups()[0]
    assert [item.value.value for item in group.get_qualitative_evaluations()] == ["cannot_flag"]
    (segment,) = pydicom.dcmread(written["region"]).SegmentSequence
    assert segment.SegmentLabel == "not flagged, p 0.25, 3 normal scans are too few to flag any"


def test_an_empty_mask_gives_no_region_and_takes_an_old_one_away(exam: Path, tmp_path: Path) -> None:
    case = case_of(exam)
    assert set(_write(exam, case, tmp_path)) == set(FILE_NAMES)
    case["anomaly_mask"] = case["anomaly_mask"] * 0
    case["is_anomalous"] = False
    assert set(_write(exam, case, tmp_path)) == set(FILE_NAMES) - {"region"}
    assert not (tmp_path / FILE_NAMES["region"]).exists()
    document = hd.sr.srread(tmp_path / FILE_NAMES["report"])
    assert not document.content.get_volumetric_roi_measurement_groups()
    evaluations = document.content.get_image_measurement_groups()[0].get_qualitative_evaluations()
    assert evaluations[0].value.value == "not_flagged"


def test_a_single_slice_with_a_place_gets_its_map(tmp_path: Path) -> None:
    path = write_exam(tmp_path / "exam", _volume(1))[0]
    case = case_of(path, spatial_dims=2)
    parametric = hd.imread(_write(path, case, tmp_path)["map"])
    np.testing.assert_array_equal(parametric.pixel_array.squeeze(), case["anomaly_map"].numpy()[0].T)


def _radiograph(path: Path) -> Path:
    image = complete(dicom_image(_volume(1)[0], Modality="CR"), "4", SOPClassUID=ComputedRadiographyImageStorage)
    del image.FrameOfReferenceUID
    image.save_as(path, enforce_file_format=True)
    return path


def test_a_radiograph_without_geometry(tmp_path: Path) -> None:
    path = _radiograph(tmp_path / "chest.dcm")
    case = case_of(path, spatial_dims=2)
    written = _write(path, case, tmp_path)
    assert set(written) == {"region", "picture", "report"}
    np.testing.assert_array_equal(hd.seg.segread(written["region"]).pixel_array, case["anomaly_mask"].numpy()[0].T)
    size = hd.sr.srread(written["report"]).content.get_volumetric_roi_measurement_groups()[0].get_measurements()[0]
    assert size.unit.value == "mm2"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("kind", ["series", "multi-frame", "radiograph"])
def test_dciodvfy_finds_no_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "exam"
    if kind == "series":
        write_exam(path, _volume())
    elif kind == "multi-frame":
        path = write_enhanced(path / "a.dcm", _volume())
    else:
        path = _radiograph(tmp_path / "chest.dcm")
    for written in _write(path, case_of(path, 2 if kind == "radiograph" else 3), tmp_path / "results").values():
        said = subprocess.run(["dciodvfy", str(written)], capture_output=True, text=True, check=False).stderr
        assert not [line for line in said.splitlines() if line.startswith(("Error", "Abort"))], written.name


def test_nobody_prints_what_stands_in_the_header(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    invalid = {"PatientName": "LEAK NAME " * 8, "PatientBirthDate": "LEAK", "AccessionNumber": "LEAK" * 20}
    write_exam(tmp_path / "exam", _volume(), StudyDescription="LEAK")
    for path in dicom_files(tmp_path / "exam"):
        with pydicom.config.disable_value_validation():
            dataset = pydicom.dcmread(path)
            for keyword, value in invalid.items():
                setattr(dataset, keyword, value)
            dataset.save_as(path)
    recwarn.clear()
    caplog.set_level("DEBUG")
    written = _write(tmp_path / "exam", case_of(tmp_path / "exam"), tmp_path)
    said = [str(warning.message) for warning in recwarn] + [record.getMessage() for record in caplog.records]
    said += [str(path.relative_to(tmp_path)) for path in written.values()]
    assert not [text for text in said if "LEAK" in text or "1.2.826" in text]
    result = pydicom.dcmread(written["map"])
    assert (str(result.PatientName), result.PatientBirthDate) == (str(dataset.PatientName).strip(), "")


def test_highdicom_is_named_where_it_is_missing(exam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match="need the package highdicom; install it with `pip install highdicom`"):
        _write(exam, case_of(exam), tmp_path)

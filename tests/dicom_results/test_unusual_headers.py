"""Results for headers that are legal but unusual: written, and valid where pydicom reads them strictly."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_studies import case_of, complete, write_exam
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedMRImageStorage
from scan_samples import AXIAL, dicom_image

from medad_plugins.dicom_results import FILE_NAMES, Algorithm, SourceSeries, write_dicom_results

pytest.importorskip("highdicom", reason="DICOM results need highdicom")

VOLUME = np.random.RandomState(1).randint(0, 3000, (3, 10, 12)).astype(np.uint16)
# PS3.3: the modules that every composite object has, type 1 and type 2
TYPE_1 = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
TYPE_2 = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber", "SeriesNumber", "Manufacturer"),
)


def _results(path: Path, folder: Path, spatial_dims: int = 3) -> dict[str, Dataset]:
    case = case_of(path, spatial_dims)
    anomaly_map = case["anomaly_map"]
    source = SourceSeries.read(path, np.asarray(anomaly_map.affine), anomaly_map.shape[1:])
    picture = Image.new("RGB", (40, 30), "red")
    written = write_dicom_results(case, source, Algorithm("Method", "1.2.3"), picture, (0.0, 1.0), folder)
    with _strictly():
        results: dict[str, Dataset] = {kind: pydicom.dcmread(file) for kind, file in written.items()}
        for result in results.values():
            list(result.iterall())  # every element is decoded, and checked
    for result in results.values():
        assert all(result.get(keyword) for keyword in TYPE_1)
        assert all(keyword in result for keyword in TYPE_2)
    return results


@contextmanager
def _strictly() -> Iterator[None]:
    settings = pydicom.config.settings
    mode = settings.reading_validation_mode
    settings.reading_validation_mode = pydicom.config.RAISE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        settings.reading_validation_mode = mode


def _changed_exam(folder: Path, **elements: Any) -> Path:
    """An exam of which every image has these elements; None takes one away."""
    for path in write_exam(folder, VOLUME):
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            for keyword, value in elements.items():
                if value is not None:
                    setattr(dataset, keyword, value)
                elif keyword in dataset:
                    delattr(dataset, keyword)
            dataset.save_as(path, enforce_file_format=True)
    return folder


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Müller^Jörg"),
        (["ISO 2022 IR 6", "ISO 2022 IR 100"], "Müller^Jörg"),
        ("ISO_IR 144", "\u041b\u044e\u043a"),
        ("ISO_IR 192", "Διονυσιος=山田"),
        ("unheard of", "Doe^Jane"),
    ],
)
def test_names_in_every_script(tmp_path: Path, charset: str | Sequence[str], name: str) -> None:
    elements = {"SpecificCharacterSet": charset, "PatientName": name, "ReferringPhysicianName": name}
    results = _results(_changed_exam(tmp_path / "exam", **elements), tmp_path / "results")
    assert set(results) == set(FILE_NAMES)
    for result in results.values():
        assert (str(result.PatientName), str(result.ReferringPhysicianName)) == (name, name)


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientSex": "U"},
        {"StudyDate": "2004.05.06", "StudyTime": "10:10:10"},
        {"PatientBirthDate": "19010000", "PatientAge": "abc"},
        {"SliceThickness": None},
        {"SliceThickness": 0},
        {"SeriesNumber": -5, "InstanceNumber": -1},
        {"Laterality": "U", "BodyPartExamined": "", "Manufacturer": ""},
        dict.fromkeys(("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "AccessionNumber")),
        dict.fromkeys(("StudyDate", "StudyTime", "ReferringPhysicianName", "Manufacturer", "InstanceNumber")),
        dict.fromkeys(("PatientName", "PatientID", "StudyDate", "StudyTime", "SliceThickness", "Manufacturer"), ""),
    ],
    ids=str,
)
def test_values_that_are_missing_empty_or_odd(tmp_path: Path, elements: dict[str, Any]) -> None:
    exam = _changed_exam(tmp_path / "exam", **elements)
    assert set(_results(exam, tmp_path / "results")) == set(FILE_NAMES)


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _enhanced(places: Sequence[int], is_shared: bool) -> pydicom.FileDataset:
    common = {
        "PlaneOrientationSequence": [_item(ImageOrientationPatient=list(AXIAL))],
        "PixelMeasuresSequence": [_item(PixelSpacing=[2.0, 1.5], SliceThickness=3.0)],
    }
    own = [_item(PlanePositionSequence=[_item(ImagePositionPatient=[0, 0, 3 * place])]) for place in places]
    for groups in () if is_shared else own:
        for keyword, value in common.items():
            setattr(groups, keyword, list(value))
    image = dicom_image(
        VOLUME[list(places)],
        NumberOfFrames=len(places),
        SharedFunctionalGroupsSequence=[_item(**(common if is_shared else {}))],
        PerFrameFunctionalGroupsSequence=own,
    )
    image = complete(image, "6", places[0], SOPClassUID=EnhancedMRImageStorage)
    del image.SliceThickness
    return image


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("kind", ["one frame", "one file", "a file a slice"])
def test_enhanced_images(tmp_path: Path, is_shared: bool, kind: str) -> None:
    path = tmp_path / "exam"
    path.mkdir()
    if kind == "a file a slice":
        for place in range(3):
            _enhanced([place], is_shared).save_as(path / f"{place}.dcm", enforce_file_format=True)
    else:
        image = _enhanced([0] if kind == "one frame" else [0, 1, 2], is_shared)
        path = path / "a.dcm"
        image.save_as(path, enforce_file_format=True)
    results = _results(path, tmp_path / "results", spatial_dims=2 if kind == "one frame" else 3)
    assert set(results) == set(FILE_NAMES)
    referred = {
        str(item.ReferencedSOPClassUID)
        for result in results.values()
        for element in result.iterall()
        if element.VR == "SQ"
        for item in element.value
        if str(item.get("ReferencedSOPInstanceUID", "")).startswith("1.2.826.0.6.")
    }
    assert referred == {str(EnhancedMRImageStorage)}

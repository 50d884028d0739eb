"""Writing small DICOM files with known pixels, known geometry and a patient whose data must not leak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

__all__ = ["AXIAL", "OBLIQUE", "SECRETS", "dicom_image", "frame_groups", "write_series"]

SECRETS = {
    "PatientName": "Leak^Name",
    "PatientID": "LEAK-ID-77",
    "PatientBirthDate": "19010203",
    "StudyDate": "20040506",
    "AccessionNumber": "LEAKACC",
    "StudyInstanceUID": "1.2.826.0.77001",
    "SOPInstanceUID": "1.2.826.0.77002",
}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_ANGLE = np.radians(25)
# rounded, for a decimal string in DICOM has at most 16 characters
OBLIQUE = (1.0, 0.0, 0.0, 0.0, round(float(np.cos(_ANGLE)), 9), round(float(-np.sin(_ANGLE)), 9))


def dicom_image(pixels: np.ndarray, **elements: Any) -> FileDataset:
    """A dataset with ``([frames,] rows, columns)`` or, where SamplesPerPixel=3 is given, colour pixels."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    meta.MediaStorageSOPInstanceUID = UID(SECRETS["SOPInstanceUID"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    samples = elements.get("SamplesPerPixel", 1)
    rows, columns = pixels.shape[-3:-1] if samples == 3 else pixels.shape[-2:]
    bits = 8 * pixels.dtype.itemsize
    described = {
        **SECRETS,
        "Modality": "MR",
        "SeriesInstanceUID": "1.2.826.0.77003",
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    for keyword, value in {**described, **elements}.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    return dataset


def write_series(
    folder: Path,
    volume: np.ndarray,
    orientation: Sequence[float] = AXIAL,
    spacing: tuple[float, float] = (2.0, 1.5),
    offsets: Sequence[float] | None = None,
    step: Sequence[float] | None = None,
    **elements: Any,
) -> list[Path]:
    """Write ``(slices, rows, columns)`` as one file per slice, file names out of order.

    Args:
        folder: where to; made if absent.
        volume: stored pixels.
        orientation: ImageOrientationPatient.
        spacing: PixelSpacing, mm between rows and between columns.
        offsets: mm of every slice along ``step``; 3 mm apart by default.
        step: direction from slice to slice; the slice normal by default.
        elements: further elements of every slice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    direction = np.cross(orientation[:3], orientation[3:]) if step is None else np.asarray(step, dtype=float)
    names = np.random.RandomState(0).permutation(len(volume))
    paths = []
    for index, pixels in enumerate(volume):
        offset = 3.0 * index if offsets is None else offsets[index]
        position = np.array([-40.0, 10.0, 5.0]) + offset * direction
        described: dict[str, Any] = {
            "InstanceNumber": index + 1,
            "ImagePositionPatient": [round(float(value), 9) for value in position],
            "ImageOrientationPatient": list(orientation),
            "PixelSpacing": list(spacing),
        }
        paths.append(folder / f"slice{names[index]:03d}.dcm")
        dicom_image(pixels, **{**described, **elements}).save_as(paths[-1], enforce_file_format=True)
    return paths


def frame_groups(position: Sequence[float], slope: float | None = None) -> Dataset:
    """One frame's functional groups of an enhanced multi-frame image."""
    place = Dataset()
    place.ImagePositionPatient = list(position)
    groups = Dataset()
    groups.PlanePositionSequence = [place]
    if slope is not None:
        rescale = Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, 0.0
        groups.PixelValueTransformationSequence = [rescale]
    return groups

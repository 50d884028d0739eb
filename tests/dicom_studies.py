"""Series as a PACS exports them, with all that a result refers to, and cases as an inference leaves them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage
from scan_samples import AXIAL, OBLIQUE, dicom_image, frame_groups, write_series

from medad_plugins.transforms import LoadImageScan

__all__ = ["case_of", "complete", "write_enhanced", "write_exam"]

SPACING = (2.0, 1.5)  # mm between rows and between columns


def complete(image: FileDataset, series: str, index: int = 0, **elements: Any) -> FileDataset:
    """Give an image what real ones have beside pixels and geometry."""
    image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = f"1.2.826.0.{series}.{index + 1}"
    image.SeriesInstanceUID, image.FrameOfReferenceUID = f"1.2.826.0.{series}", "1.2.826.0.9"
    image.SliceThickness, image.PatientSex, image.StudyTime, image.StudyID = 3.0, "O", "101010", "1"
    image.ReferringPhysicianName, image.Manufacturer = "Leak^Doctor", "Maker"
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    return image


def write_exam(
    folder: Path,
    volume: np.ndarray,
    series: str = "1",
    orientation: Sequence[float] = OBLIQUE,
    offsets: Sequence[float] | None = None,
    **elements: Any,
) -> list[Path]:
    """Write ``(slices, rows, columns)`` as a series whose files' names are out of order; oblique by default."""
    paths = write_series(folder, volume, orientation, SPACING, offsets)
    for index, path in enumerate(paths):
        complete(pydicom.dcmread(path), series, index, **elements).save_as(path, enforce_file_format=True)
    return paths


def write_enhanced(path: Path, volume: np.ndarray) -> Path:
    """Write ``(frames, rows, columns)`` as one multi-frame file whose frames come in falling order."""
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), 3.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    places = [frame_groups((0, 0, -3.0 * index)) for index in range(len(volume))]
    image = dicom_image(
        volume,
        NumberOfFrames=len(volume),
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=places,
    )
    complete(image, "3", SOPClassUID=EnhancedMRImageStorage)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def case_of(path: Path, spatial_dims: int = 3, seed: int = 0) -> dict[str, Any]:
    """A case with a random map, marked where it is high, as `AnomalyPostprocessing` leaves it."""
    scan = LoadImageScan(spatial_dims)(path)
    values = torch.from_numpy(np.random.RandomState(seed).rand(1, *scan.shape[:spatial_dims]).astype(np.float32))
    values[..., -2:] = 0.0  # so that some slices have nothing marked
    anomaly_map = MetaTensor(values, meta=dict(scan.meta))
    return {
        "anomaly_score": 0.987654321,
        "p_value": 0.04,
        "alpha": 0.05,
        "is_anomalous": True,
        "calibrated_on": 40,
        "can_flag": True,
        "pixel_threshold": 0.9,
        "anomaly_map": anomaly_map,
        "anomaly_mask": (anomaly_map > 0.9).to(torch.uint8),
    }

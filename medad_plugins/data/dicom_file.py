"""One DICOM file: its pixels as numbers and its place in space, and nothing that says whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset

from medad_plugins.data.scan import PICTURE_AFFINE
from medad_plugins.errors import InputError

__all__ = [
    "OVERLAY_GROUPS",
    "Plane",
    "damaged",
    "frame_groups",
    "image_affine",
    "is_dicom",
    "plane_of",
    "read_dicom",
]

OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_PALETTE = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
# Only these elements are ever parsed, so no name, date or identifier can reach a message, a warning or an output.
_TAGS: list[Any] = [
    *("Modality", "SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
    *(name + suffix for name in _PALETTE for suffix in ("Descriptor", "Data")),
    *(f"Segmented{name}Data" for name in _PALETTE),
    *("NominalScannedPixelSpacing", "FloatPixelData", "DoubleFloatPixelData"),
    *(group << 16 | 0x0100 for group in OVERLAY_GROUPS),  # OverlayBitsAllocated
]
_NUMBERS = [
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "SliceThickness", "PixelSpacing", "ImagerPixelSpacing"),
]
_FIRST_ELEMENTS = {0x0000, 0x0001, 0x0005, 0x0008, 0x0012, 0x0014, 0x0016, 0x0018}
_DIRECTORY = "1.2.840.10008.1.3.10"
# Objects that carry numbers on a grid but are no image of the patient.
_NO_IMAGE = {"SEG": "a segmentation", "RTDOSE": "a radiotherapy dose"}


def is_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark, ``DICM`` after 128 bytes, or begins as files did before there was one."""
    try:
        with open(path, "rb") as file:
            first = file.read(132)
    except OSError:
        return False
    return first[128:] == b"DICM" or _begins_without_header(first)


def _begins_without_header(first: bytes) -> bool:
    """Whether bytes are the first element of a little-endian data set: of group 8, short, with a usual tag."""
    if len(first) < 132 or first[:2] != b"\x08\0" or int.from_bytes(first[2:4], "little") not in _FIRST_ELEMENTS:
        return False
    explicit = first[4:6] in (b"UL", b"CS", b"UI", b"SH", b"DA", b"LO")
    length = int.from_bytes(first[6:8] if explicit else first[4:8], "little")
    return length <= 64 and length % 2 == 0


def read_dicom(path: Path, pixels: bool = True) -> FileDataset:
    """Read a DICOM image file, restricted to what pixels and geometry need; without ``pixels`` only its header.

    Raises:
        InputError: not DICOM, truncated, or an object that holds no image (structure set, segmentation, dose, report).
    """
    try:
        # force: files from before DICOM's file header existed are read too
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels, specific_tags=_TAGS)
        modality = str(dataset.get("Modality", ""))
        is_image = "Rows" in dataset and ("PixelData" in dataset or not pixels)
        for keyword in _NUMBERS:
            np.array(dataset.get(keyword) or 0, dtype=np.float64)  # elements are decoded, and may fail to be, on access
    except Exception as error:  # pydicom raises InvalidDicomError, EOFError, ValueError, struct.error and others
        raise damaged(path) from error
    kind = _NO_IMAGE.get(modality)
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        kind = "a parametric map"
    if getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID") == _DIRECTORY:
        kind = "a DICOMDIR, an index of files"
    if kind is not None:
        found = f"{kind} ({modality})" if modality.isalpha() else kind
        todo = "give the images it was made from"
        raise InputError("the DICOM file is not an image", where=path, expected="an image", found=found, todo=todo)
    if not is_image:
        raise InputError(
            "the DICOM file holds no image, or was truncated before it",
            where=path,
            found=f"modality {modality}" if modality.isalpha() else "no image description",
            todo="remove it or copy it again from its source",
        )
    return dataset


def damaged(path: Path) -> InputError:
    """What to raise for a file whose elements or pixels cannot be made sense of."""
    return InputError("the DICOM file is truncated or damaged", where=path, todo="copy it again from its source")


class Plane(NamedTuple):
    """Where a slice lies, in mm and in DICOM's axes (LPS)."""

    position: np.ndarray  # (3,), centre of the first pixel
    along_row: np.ndarray  # (3,), unit vector of increasing column index
    along_column: np.ndarray  # (3,), unit vector of increasing row index
    row_spacing: float  # between rows
    column_spacing: float  # between columns

    @property
    def normal(self) -> np.ndarray:
        return np.cross(self.along_row, self.along_column)

    def affine(self, step: np.ndarray) -> np.ndarray:
        """``(4, 4)``, index (column, row, slice) to mm in RAS; ``step`` is the vector from one slice to the next."""
        lps = np.eye(4)
        lps[:3, 0] = self.along_row * self.column_spacing
        lps[:3, 1] = self.along_column * self.row_spacing
        lps[:3, 2] = step
        lps[:3, 3] = self.position
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps


def plane_of(position: Dataset, orientation: Dataset, spacing: Dataset) -> Plane | None:
    """The plane of a slice from the datasets that hold its elements, or None where one is missing or impossible."""
    try:
        origin = np.array(position.ImagePositionPatient, dtype=np.float64)
        axes = np.array(orientation.ImageOrientationPatient, dtype=np.float64).reshape(2, 3)
        between_rows, between_columns = (float(value) for value in spacing.PixelSpacing)
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        return None
    if origin.shape != (3,):  # an empty value
        return None
    numbers = np.concatenate([origin, axes.ravel(), [between_rows, between_columns]])
    is_valid = np.isfinite(numbers).all() and min(between_rows, between_columns) > 0
    if not is_valid or not np.allclose(axes @ axes.T, np.eye(2), atol=1e-2):
        return None
    return Plane(origin, axes[0], axes[1], between_rows, between_columns)


def frame_groups(dataset: Dataset, frame: int = 0) -> FrameGroups:
    """What is said of a frame: by its own functional groups, those that all frames share, or the file."""
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    own = frames[frame] if frame < len(frames) else Dataset()

    def group(keyword: str) -> Dataset:
        return next((one[keyword][0] for one in (own, shared) if one.get(keyword)), dataset)

    return FrameGroups(*(group(keyword) for keyword in _GROUPS))


def _first(dataset: Dataset, keyword: str) -> Dataset:
    sequence = dataset.get(keyword)
    return sequence[0] if sequence else Dataset()


_GROUPS = (
    *("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"),
    "PixelValueTransformationSequence",
)


class FrameGroups(NamedTuple):
    """The data sets that hold a frame's place and rescaling; the file itself where it has no such group."""

    position: Dataset
    orientation: Dataset
    measures: Dataset
    rescale: Dataset

    @property
    def plane(self) -> Plane | None:
        """Where the frame lies, None where that is not said."""
        return plane_of(self.position, self.orientation, self.measures)


def image_affine(dataset: Dataset) -> np.ndarray:
    """``(4, 4)`` affine of a single 2D image; where the file has no geometry, a picture's with its pixel spacing."""
    groups = frame_groups(dataset)
    thickness = _positive(groups.measures.get("SliceThickness"))
    plane = groups.plane
    if plane is not None:
        return plane.affine(plane.normal * (1.0 if thickness is None else thickness))
    affine = PICTURE_AFFINE.copy()
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = groups.measures.get(name) or []
        spacing = [_positive(value) for value in values] if not isinstance(values, (str, float)) else []
        if len(spacing) == 2 and spacing[0] is not None and spacing[1] is not None:
            affine[:2, :2] *= np.diag([spacing[1], spacing[0]])
            break
    return affine


def _positive(value: object) -> float | None:
    """A length, None where it is missing or impossible."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) and number > 0 else None

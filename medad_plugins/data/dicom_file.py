"""One DICOM file: its pixels as numbers and its place in space, and nothing that says whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medad_plugins.data.scan import PICTURE_AFFINE
from medad_plugins.errors import InputError

__all__ = [
    "Pixels",
    "Plane",
    "damaged",
    "fill_padding",
    "image_affine",
    "is_dicom",
    "pixel_values",
    "plane_of",
    "read_dicom",
    "stored_pixels",
]

_PALETTE = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
# Only these elements are ever parsed, so no name, date or identifier can reach a message, a warning or an output.
_TAGS: list[str] = [
    *("Modality", "SeriesInstanceUID", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"),
    *(name + suffix for name in _PALETTE for suffix in ("Descriptor", "Data")),
    *(f"Segmented{name}Data" for name in _PALETTE),
]
_NUMBERS = [
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "BitsAllocated", "BitsStored", "PixelRepresentation"),
    *("RescaleSlope", "RescaleIntercept", "SliceThickness", "PixelSpacing", "ImagerPixelSpacing"),
]
# Objects that carry numbers on a grid but are no image of the patient.
_NO_IMAGE = {"SEG": "a segmentation", "RTDOSE": "a radiotherapy dose"}
_DECODERS = (
    "install decoders with `pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`, "
    "or decompress the files with `gdcmconv --raw`"
)


def is_dicom(path: Path) -> bool:
    """Whether the file bears DICOM's mark: ``DICM`` after 128 bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


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
    if modality in _NO_IMAGE:
        found = f"{_NO_IMAGE[modality]} ({modality})"
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


def stored_pixels(dataset: FileDataset, path: Path) -> np.ndarray:
    """Decode the pixel data: ``([frames,] rows, columns[, 3])``, colour as RGB.

    Raises:
        InputError: a compression no installed decoder reads, or damaged pixel data.
    """
    syntax = _transfer_syntax(dataset)
    try:
        return pixel_array(dataset)
    except Exception as error:  # RuntimeError, ValueError, AttributeError and whatever else the decoders raise
        if not _decodable(syntax) or "does not support" in str(error):
            name = "an unknown compression" if syntax.name == str(syntax) else syntax.name
            precision = f", {dataset.get('BitsStored', '?')} bits"
            raise InputError(
                "no installed decoder reads the compression of the DICOM file",
                where=path,
                found=name + precision,
                todo=_DECODERS,
            ) from error
        raise damaged(path) from error


def _transfer_syntax(dataset: FileDataset) -> pydicom.uid.UID:
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" not in dataset.file_meta:  # a file without DICOM's file header is uncompressed
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset.file_meta.TransferSyntaxUID


def _decodable(syntax: pydicom.uid.UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


class Pixels(NamedTuple):
    """Intensities in the scanner's unit (HU for CT), which of them are padding, and their stored width (see `Scan`)."""

    values: np.ndarray
    padding: np.ndarray | None
    stored_bits: int


def pixel_values(stored: np.ndarray, dataset: Dataset, path: Path, rescale: Dataset | None = None) -> Pixels:
    """Turn one frame's stored pixels into intensities: palette, MONOCHROME1 inversion, rescale slope and intercept.

    Args:
        stored: ``(rows, columns[, 3])``.
        dataset: the file the frame is from.
        path: the file's path, for messages.
        rescale: what holds RescaleSlope and RescaleIntercept, where that is not ``dataset`` (enhanced multi-frame).

    Raises:
        InputError: an unknown photometric interpretation.
    """
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(stored, dataset)[..., :3]
        return Pixels((coloured >> 8).astype(np.uint8) if coloured.dtype == np.uint16 else coloured, None, 8)
    if stored.ndim == 3 and photometric.startswith(("RGB", "YBR")):
        return Pixels(stored, None, 8 if stored.dtype == np.uint8 else 16)
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or stored.ndim != 2:
        known = "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or YBR"
        raise InputError("unknown photometric interpretation in the DICOM file", where=path, expected=known)
    padding = _padding(stored, dataset)
    bits = int(dataset.get("BitsStored", 16))
    if photometric == "MONOCHROME1":
        # mirrored about the middle of the stored range: 0 and the highest number change places (-1 and 0 where signed)
        stored = (-1 if dataset.get("PixelRepresentation", 0) else 2**bits - 1) - stored.astype(np.int32)
    if "ModalityLUTSequence" in dataset:
        return Pixels(apply_modality_lut(stored, dataset).astype(np.float32), padding, 16)
    source = dataset if rescale is None else rescale
    slope, intercept = (
        float(value) if (value := source.get(name)) is not None else default
        for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if (slope, intercept) == (1.0, 0.0):
        in_bytes = bits == 8 and not dataset.get("PixelRepresentation", 0)
        return Pixels(stored, padding, 8 if in_bytes else max(16, int(dataset.get("BitsAllocated", 16))))
    return Pixels(stored.astype(np.float32) * np.float32(slope) + np.float32(intercept), padding, 32)


def _padding(stored: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit")
    low, high = sorted((first, last if isinstance(last, int) else first))
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() and not padding.all() else None


def fill_padding(values: np.ndarray, padding: np.ndarray | None) -> np.ndarray:
    """Give the pixels that the scanner never measured (outside a CT's circle) the lowest measured value."""
    if padding is None or padding.all():
        return values
    filled = values.copy()
    filled[padding] = values[~padding].min()
    return filled


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
    numbers = np.concatenate([origin, axes.ravel(), [between_rows, between_columns]])
    is_valid = origin.shape == (3,) and np.isfinite(numbers).all() and min(between_rows, between_columns) > 0
    if not is_valid or not np.allclose(axes @ axes.T, np.eye(2), atol=1e-2):
        return None
    return Plane(origin, axes[0], axes[1], between_rows, between_columns)


def image_affine(dataset: Dataset) -> np.ndarray:
    """``(4, 4)`` affine of a single 2D image; where the file has no geometry, a picture's with its pixel spacing."""
    thickness = dataset.get("SliceThickness")
    depth = float(thickness) if thickness else 1.0
    plane = plane_of(dataset, dataset, dataset)
    if plane is not None:
        return plane.affine(plane.normal * depth)
    affine = PICTURE_AFFINE.copy()
    spacing = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    if spacing is not None and len(spacing) == 2 and min(spacing) > 0:
        affine[:2, :2] *= np.diag([float(spacing[1]), float(spacing[0])])
    return affine

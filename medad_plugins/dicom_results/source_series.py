"""The DICOM images that a scan was read from: what a result must refer to, and where its frames lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import DA, TM

from medad_plugins.data.dicom_file import Plane, damaged, frame_groups
from medad_plugins.data.dicom_series import dicom_files
from medad_plugins.dicom_results.highdicom_package import silent_about_headers
from medad_plugins.errors import InputError

__all__ = ["SourceSeries"]

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# DICOM lets these be empty but not absent, and a result takes them over
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "SliceThickness"),
)
# How far (mm) an image may lie from the slice it became: the reader of series lets them drift by half a millimetre.
_TOLERANCE = 0.6
_RAS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class SourceSeries:
    """The headers, without pixels, of the images of a series, and the slice of the scan that every frame became.

    Patients' data stay in these headers and in the DICOM objects made from them, as DICOM demands.

    Attributes:
        images: one for each slice, or the one multi-frame image.
        slices: for every frame of ``images``, its index along the scan's last axis; ``(0,)`` for a 2D scan.
        classes: the SOP class of every image, by its identifier; an enhanced image that is one slice of several bears
            that of a plain one in its header here, for highdicom takes several plain images or one enhanced.
    """

    images: tuple[Dataset, ...]
    slices: tuple[int, ...]
    classes: Mapping[str, str]

    @classmethod
    def read(cls, path: str | Path | Sequence[Path], affine: NDArray, shape: Sequence[int]) -> SourceSeries:
        """Read the headers of the files that a scan was read from.

        Args:
            path: a DICOM file, a folder that is one series, or the files of a series.
            affine: ``(4, 4)`` of the scan, mm, RAS.
            shape: ``(columns, rows[, slices])`` of the scan.

        Raises:
            InputError: no DICOM, no identifiers to refer to, or another grid than the scan's.
        """
        images = [_read_header(file) for file in _files(path)]
        if not images:
            raise InputError("the scan is not a DICOM file", where=path, todo="give a DICOM series")
        identifiers = [str(image.SOPInstanceUID) for image in images]
        if len(set(identifiers)) < len(identifiers):
            todo = "copy the series again from its source"
            raise InputError("several DICOM files bear the same identifier", where=_place(path), todo=todo)
        # a radiograph has neither; a position in no frame of reference is of no use
        has_position = len(shape) == 3 or frame_groups(images[0]).plane is not None
        if has_position and not all(image.get("FrameOfReferenceUID") for image in images):
            raise InputError(
                "the DICOM series has no frame of reference, so that no result could be laid over it",
                where=_place(path),
                todo="export it again from the PACS",
            )
        slices: tuple[int, ...] = (0,)
        if len(shape) == 3:
            slices = tuple(_slices(images, np.asarray(affine, dtype=float), shape[2], _place(path)))
        images = images[:1] if len(shape) == 2 else images
        classes = {str(image.SOPInstanceUID): str(image.SOPClassUID) for image in images}
        for image in images:
            _simplify(image, len(images) > 1)
        return cls(tuple(images), slices, classes)

    @property
    def is_multi_frame(self) -> bool:
        """Whether all frames are in one image."""
        return len(self.slices) > len(self.images)

    @property
    def has_place(self) -> bool:
        """Whether the images say where in the patient they lie, as radiographs do not."""
        image = self.images[0]
        return bool(image.get("FrameOfReferenceUID")) and (self.is_multi_frame or frame_groups(image).plane is not None)

    def name_true_classes(self, result: Dataset) -> None:
        """Let all references of a result name the classes that the images have."""
        for element in result.iterall():
            for reference in element.value if element.VR == "SQ" else ():
                true = self.classes.get(str(reference.get("ReferencedSOPInstanceUID")))
                if true is not None and "ReferencedSOPClassUID" in reference:
                    reference.ReferencedSOPClassUID = true

    def frames(self, values: NDArray) -> NDArray:
        """``(1, columns, rows[, slices])`` of the scan as ``(frames, rows, columns)`` in the order of ``images``."""
        volume = values[0][..., None] if values.ndim == 3 else values[0]
        return np.ascontiguousarray(volume.transpose(2, 1, 0)[list(self.slices)])


def _place(path: str | Path | Sequence[Path]) -> object:
    return path if isinstance(path, (str, Path)) else path[0].parent


def _files(path: str | Path | Sequence[Path]) -> list[Path]:
    if not isinstance(path, (str, Path)):
        return list(path)
    return dicom_files(Path(path)) if Path(path).is_dir() else [Path(path)]


def _read_header(path: Path) -> Dataset:
    with silent_about_headers():
        try:
            image = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            missing = [keyword for keyword in _NEEDED if not image.get(keyword)]
        except Exception as error:  # damaged bytes provoke whatever they happen to mean
            raise damaged(path) from error
        if missing:
            raise InputError(
                "a DICOM result cannot refer to this file",
                where=path,
                expected=", ".join(_NEEDED),
                found=f"no {', '.join(missing)}",
                todo="export it again from the PACS",
            )
        for keyword in _MAY_BE_EMPTY:
            if keyword not in image or not _is_meaningful(image, keyword):
                setattr(image, keyword, None)
        _to_unicode(image)
        return image


def _to_unicode(image: Dataset) -> None:
    """Decode all texts and name UTF-8 as their character set, which highdicom can write whatever they are.

    It takes no code extensions with an empty first value, which is how Japanese, Korean and Greek names come.
    """
    for _ in image.iterall():  # decodes by the image's own character set, on access
        pass
    if image.get("SpecificCharacterSet"):
        image.SpecificCharacterSet = "ISO_IR 192"


def _is_meaningful(image: Dataset, keyword: str) -> bool:
    """Whether a date is a date, a time a time and a sex one that the standard knows; highdicom copies no others."""
    if keyword == "PatientSex":
        return image.get(keyword) in ("M", "F", "O")
    if keyword == "SliceThickness":
        return bool(image.get(keyword)) and image[keyword].value > 0
    kind: Any = DA if keyword.endswith("Date") else TM if keyword.endswith("Time") else str
    try:
        kind(str(image.get(keyword) or ""))
    except (ValueError, TypeError):
        return False
    return True


def _slices(images: Sequence[Dataset], affine: NDArray, count: int, where: object) -> list[int]:
    """Index along the scan's last axis of every frame; each slice is one frame's."""
    planes = _frame_planes(images[0]) if len(images) == 1 else [frame_groups(one).plane for one in images]
    into_scan = np.linalg.inv(affine)
    slices = []
    for plane in planes:
        position = np.full(3, np.nan) if plane is None else plane.position * _RAS
        height = (into_scan @ [*position, 1.0])[2]
        index = -1 if np.isnan(height) else round(float(height))
        if not np.linalg.norm((affine @ [0.0, 0.0, index, 1.0])[:3] - position) < _TOLERANCE:
            raise InputError("the scan is not on the grid of the DICOM series", where=where, todo="give its own series")
        slices.append(index)
    if sorted(slices) != list(range(count)):
        found = f"{count} slices and {len(slices)} images"
        raise InputError("the scan is not the DICOM series", where=where, found=found, todo="give its own series")
    return slices


def _simplify(image: Dataset, is_one_of_several: bool) -> None:
    """Write what an enhanced image says of its frames where highdicom looks for it."""
    if "PerFrameFunctionalGroupsSequence" not in image:
        return
    groups = frame_groups(image)
    if is_one_of_several:
        image.ImagePositionPatient = groups.position.get("ImagePositionPatient")
        image.ImageOrientationPatient = groups.orientation.get("ImageOrientationPatient")
        image.PixelSpacing = groups.measures.get("PixelSpacing")
        image.SliceThickness = groups.measures.get("SliceThickness")
        image.SOPClassUID = CTImageStorage if image.get("Modality") == "CT" else MRImageStorage
        for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence", "NumberOfFrames"):
            if keyword in image:
                delattr(image, keyword)
        return
    # the reader has checked that all frames are alike in these
    shared = image.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for keyword, group in (
        ("PlaneOrientationSequence", groups.orientation),
        ("PixelMeasuresSequence", groups.measures),
    ):
        if keyword not in shared[0] and group is not image:
            setattr(shared[0], keyword, [group])
    image.SharedFunctionalGroupsSequence = shared


def _frame_planes(image: Dataset) -> list[Plane | None]:
    frames = len(image.get("PerFrameFunctionalGroupsSequence") or [])
    return [frame_groups(image, frame).plane for frame in range(frames)]

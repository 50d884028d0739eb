"""Which series of a DICOM study a bundle reads, or a sentence that says why none."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
from monai.data import MetaTensor
from pydicom.config import disable_value_validation

from medad_plugins.data.dicom_series import dicom_files
from medad_plugins.errors import InputError
from medad_plugins.transforms import LoadImageScan

__all__ = ["BundleInput", "Series", "find_series", "select_series"]

_TAGS = ["Modality", "SeriesInstanceUID", "SeriesDescription", "NumberOfFrames", "Rows"]
_MANY = 6  # series to give reasons for in one sentence


@dataclass(frozen=True)
class BundleInput:
    """What a bundle reads.

    Attributes:
        spatial_dims: 2 for single images, 3 for volumes.
        modality: as DICOM names it, e.g. MR; ``any`` where the bundle's metadata do not limit it.
        min_slices: fewest slices of a volume.
    """

    spatial_dims: int
    modality: str = "any"
    min_slices: int = 8


@dataclass(frozen=True)
class Series:
    """The image files of one series, and what its header says of their kind; no identity of a patient.

    Attributes:
        files: sorted by path.
        modality: e.g. MR.
        description: as the scanner's operator wrote it; matched, never logged.
        frames: images in all files together.
    """

    files: tuple[Path, ...]
    modality: str
    description: str
    frames: int

    @property
    def name(self) -> str:
        """How a message calls the series."""
        count = f"{self.frames} image{'s' if self.frames > 1 else ''}"
        return f"{self.modality or 'no modality'}, {count}, {self.files[0].parent.name}/{self.files[0].name}"


def find_series(study: Path) -> list[Series]:
    """All series with images below a folder, whatever its subfolders, sorted by their first file.

    Raises:
        InputError: the folder does not exist, or holds no DICOM image.
    """
    if not study.is_dir():
        raise InputError("the study's folder does not exist", where=study, todo="check the path")
    found: dict[str, list[tuple[Path, pydicom.Dataset]]] = {}
    for parent, names, _ in sorted(os.walk(study)):
        names[:] = [name for name in names if not name.startswith(".")]
        for path in dicom_files(Path(parent)):
            header = _header(path)
            if header is not None:
                found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    if not found:
        raise InputError("no DICOM image in the study's folder", where=study, todo="check the path")
    series = []
    for members in found.values():
        first = members[0][1]
        frames = sum(int(header.get("NumberOfFrames") or 1) for _, header in members)
        texts = [str(first.get(keyword) or "") for keyword in ("Modality", "SeriesDescription")]
        series.append(Series(tuple(path for path, _ in members), texts[0], texts[1], frames))
    return sorted(series, key=lambda one: one.files[0])


def _header(path: Path) -> pydicom.Dataset | None:
    # damaged files are reported when their series is read, because only then does their path matter
    try:
        with disable_value_validation():
            header = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            return header if "Rows" in header else None
    except Exception:
        return None


def select_series(study: Path, bundle: BundleInput, wanted: str = "") -> tuple[Series, MetaTensor]:
    """The one series of a study that the bundle reads, and its scan.

    Args:
        study: folder of DICOM files.
        bundle: what it reads.
        wanted: regular expression to be found in the series' description, whatever its case; empty takes any series.

    Returns:
        The series and its scan as `medad_plugins.transforms.LoadImageScan` reads it.

    Raises:
        InputError: no series can be read, with the reason for each; several can, and it is not said which.
    """
    series = find_series(study)
    reasons: list[str] = []
    readable: list[tuple[Series, MetaTensor]] = []
    for one in series:
        reason = _mismatch(one, bundle, wanted)
        if reason is None:
            try:
                readable.append((one, _read(one, bundle.spatial_dims)))
                continue
            except InputError as error:
                if len(series) == 1:
                    raise
                reason = str(error).rstrip(".")
        reasons.append(f"[{one.name}] {reason}")
    if len(readable) == 1:
        return readable[0]
    if readable:
        raise InputError(
            "the study holds several series that this bundle can read",
            where=study,
            expected="one",
            found="; ".join(f"[{one.name}]" for one, _ in readable[:_MANY]),
            todo="give the folder of one, or part of its series description as MEDAD_SERIES",
        )
    more = f"; and {len(reasons) - _MANY} more" if len(reasons) > _MANY else ""
    raise InputError(
        "the study holds no series that this bundle can read",
        where=study,
        expected=_expected(bundle, wanted),
        found="; ".join(reasons[:_MANY]) + more,
        todo="give another study, or a bundle trained for this kind of scan",
    )


def _expected(bundle: BundleInput, wanted: str) -> str:
    kind = "a volume of parallel slices" if bundle.spatial_dims == 3 else "a single image"
    modality = "" if bundle.modality.lower() == "any" else f" of modality {bundle.modality}"
    return kind + modality + (f" whose description matches {wanted!r}" if wanted else "")


def _mismatch(series: Series, bundle: BundleInput, wanted: str) -> str | None:
    """Why the bundle cannot read a series, as far as its headers show."""
    if bundle.modality.lower() not in ("any", series.modality.lower()):
        return f"modality {series.modality or 'unknown'}"
    if bundle.spatial_dims == 3 and series.frames < bundle.min_slices:
        return "too few slices for a volume"
    if bundle.spatial_dims == 2 and series.frames > 1:
        return "more than one image"
    try:
        matches = re.search(wanted, series.description, re.IGNORECASE)
    except re.error as error:
        raise InputError(
            "this is not a regular expression", where="MEDAD_SERIES", found=wanted, todo="correct it"
        ) from error
    return None if matches else "its description does not match"


def _read(series: Series, spatial_dims: int) -> MetaTensor:
    with _own_folder(series.files) as path:
        scan: MetaTensor = LoadImageScan(spatial_dims)(path)
    scan.meta["filename_or_obj"] = str(series.files[0].parent)
    if scan.meta["spatial_shape"].size != spatial_dims:
        raise InputError("the series is of another kind than its headers say", where=series.files[0].parent)
    return scan


@contextmanager
def _own_folder(files: Sequence[Path]) -> Iterator[Path]:
    """A path that is this series alone: archives and exports often keep all series in one folder."""
    folder = files[0].parent
    if len(files) == 1:
        yield files[0]
    elif list(files) == dicom_files(folder):
        yield folder
    else:
        with TemporaryDirectory() as temporary:
            for index, file in enumerate(files):
                Path(temporary, f"{index:05d}_{file.name}.dcm").symlink_to(file.resolve())
            yield Path(temporary)

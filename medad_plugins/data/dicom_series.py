"""DICOM series as volumes: slices in order, an even grid or a clear refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from medad_plugins.data.dicom_file import Plane, damaged, frame_groups, image_affine, read_dicom
from medad_plugins.data.dicom_folder import dicom_files, refuse_damaged_files
from medad_plugins.data.dicom_pixels import Pixels, fill_padding, pixel_values, stored_pixels
from medad_plugins.data.scan import Scan
from medad_plugins.errors import InputError

__all__ = ["dicom_files", "holds_volume", "read_dicom_scan", "read_series"]

# A slice may lie this far (mm, or this part of the step where that is less) from its place on an even grid: positions
# in headers are rounded. A missing slice shows as half a step at least.
_POSITION_TOLERANCE, _STEP_TOLERANCE = 0.1, 0.25
_TILT_TOLERANCE = 0.5  # degrees
_GRID_TODO = "resample it onto an even, straight grid, e.g. with dcm2niix, and give the NIfTI file"


def holds_volume(files: Sequence[Path]) -> bool:
    """Whether some of these files are slices of one series at different positions; reads headers only."""
    positions: dict[object, tuple[float, ...]] = {}
    for path in files:
        try:
            dataset = read_dicom(path, pixels=False)
        except InputError:
            continue
        plane = frame_groups(dataset).plane
        if plane is None:
            continue
        position = tuple(plane.position)
        if positions.setdefault(_series(dataset), position) != position:
            return True
    return False


def _series(dataset: FileDataset) -> object:
    # the raw element: a conversion would warn about an invalid UID and print it
    return dataset.get_item("SeriesInstanceUID").value if "SeriesInstanceUID" in dataset else None


def read_series(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a folder that holds one DICOM series.

    Returns:
        The volume ``(columns, rows, slices)`` in the scanner's unit, slices in the direction of the slice normal,
        and its ``(4, 4)`` affine in mm, RAS.

    Raises:
        InputError: no DICOM file, several series, a slice that cannot be decoded, missing geometry, missing slices,
            uneven gaps or a gantry tilt; distances are given in mm.
    """
    scan = read_dicom_scan(folder)
    return scan.array, scan.affine


def read_dicom_scan(path: Path) -> Scan:
    """Read a DICOM file (a 2D image, or a multi-frame volume) or a folder of one DICOM series.

    Raises:
        InputError: see `read_series` and `medad_plugins.data.dicom_file`; frames without positions.
    """
    try:
        return _read_folder(path) if path.is_dir() else _read_file(path)
    except InputError:
        raise
    except Exception as error:  # in a damaged file any element can be of any type or length
        raise damaged(path) from error


def _read_folder(path: Path) -> Scan:
    files = dicom_files(path)
    if not files:
        raise InputError(
            "the folder holds no DICOM file", where=path, todo="give the folder that directly holds a series"
        )
    refuse_damaged_files(path, files)
    return _read_file(files[0]) if len(files) == 1 else _read_slices(path, files)


def _read_file(path: Path) -> Scan:
    dataset = read_dicom(path)
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        return _read_frames(dataset, path)
    stored = stored_pixels(dataset, path)
    pixels = pixel_values(_only_frame(stored, dataset), dataset, path, frame_groups(dataset).rescale)
    values = fill_padding(pixels.values, pixels.padding)
    lies_somewhere = frame_groups(dataset).plane is not None
    affine = image_affine(dataset)
    return Scan(values.swapaxes(0, 1), affine, pixels.stored_bits, values.ndim == 3, lies_somewhere)


def _only_frame(stored: np.ndarray, dataset: FileDataset) -> np.ndarray:
    return stored.reshape(stored.shape[-3:] if int(dataset.SamplesPerPixel) > 1 else stored.shape[-2:])


def _read_frames(dataset: FileDataset, path: Path) -> Scan:
    """A volume from the frames of one file, where functional groups give every frame its place."""
    count = int(dataset.NumberOfFrames)
    described = len(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    groups = [frame_groups(dataset, frame) for frame in range(count)]
    planes = [one.plane for one in groups]
    if described != count or int(dataset.get("SamplesPerPixel") or 1) != 1 or None in planes:
        raise InputError(
            "the multi-frame DICOM file is no volume",
            where=path,
            expected="a position, an orientation and a pixel spacing for every frame, in grey",
            found=f"{count} frames without them",
            todo="give its frames as single images, or convert it to NIfTI",
        )
    order, affine = _even_grid([plane for plane in planes if plane is not None], path)
    stored = stored_pixels(dataset, path)
    return _stack([pixel_values(stored[i], dataset, path, groups[i].rescale) for i in order], affine)


def _read_slices(folder: Path, files: Sequence[Path]) -> Scan:
    """Headers first, so that a folder that is no volume is refused before anything is decoded."""
    headers = [read_dicom(path, pixels=False) for path in files]
    series = [_series(header) for header in headers]
    counts = sorted((series.count(one) for one in set(series)), reverse=True)
    if len(counts) > 1:
        found = f"{len(counts)} series of {', '.join(str(count) for count in counts[:5])}"
        found += f"{', ...' if len(counts) > 5 else ''} files"
        todo = "give every series a folder of its own"
        raise InputError("the folder mixes DICOM series", where=folder, expected="one series", found=found, todo=todo)
    planes: list[Plane] = []
    for path, header in zip(files, headers, strict=True):
        plane = frame_groups(header).plane
        if plane is None or int(header.get("NumberOfFrames") or 1) > 1 or int(header.get("SamplesPerPixel") or 1) != 1:
            raise InputError(
                "a DICOM file in the folder is no slice of a volume",
                where=path,
                expected="one grey frame with position, orientation and pixel spacing",
                todo="remove it, or give the files as single images",
            )
        planes.append(plane)
    sizes = {(int(header.Columns), int(header.Rows)) for header in headers}
    if len(sizes) > 1:
        found = " and ".join(f"{columns} x {rows}" for columns, rows in sorted(sizes))
        raise InputError("the slices of the DICOM series differ in size", where=folder, found=found, todo=_GRID_TODO)
    order, affine = _even_grid(planes, folder)
    pixels = []
    for i in order:
        dataset = read_dicom(files[i])
        frame = _only_frame(stored_pixels(dataset, files[i]), dataset)
        pixels.append(pixel_values(frame, dataset, files[i], frame_groups(dataset).rescale))
    return _stack(pixels, affine)


def _stack(pixels: Sequence[Pixels], affine: np.ndarray) -> Scan:
    values = np.stack([frame.values.T for frame in pixels], axis=-1)
    if any(frame.padding is not None for frame in pixels):
        blank = np.zeros(pixels[0].values.shape, dtype=bool)
        padding = np.stack([(blank if frame.padding is None else frame.padding).T for frame in pixels], axis=-1)
        values = fill_padding(values, padding)
    return Scan(values, affine, max(frame.stored_bits for frame in pixels), False)


def _even_grid(planes: Sequence[Plane], where: Path) -> tuple[list[int], np.ndarray]:
    """The order of the slices along their normal and the affine of the volume.

    Raises:
        InputError: the slices are not parallel, share a position, or are not on an even, straight grid.
    """
    first = planes[0]
    for plane in planes[1:]:
        _check_parallel(first, plane, where)
    heights = np.array([plane.position @ first.normal for plane in planes])
    order = [int(i) for i in np.argsort(heights, kind="stable")]
    heights = heights[order]
    gaps = np.diff(heights)
    repeated = int((gaps < 1e-3).sum())
    if repeated:
        raise InputError(
            "several slices of the DICOM series lie at the same position",
            where=where,
            expected="one slice per position",
            found=f"{len(planes)} slices at {len(planes) - repeated} positions (time points, echoes or copies)",
            todo="keep one of them per position",
        )
    positions = np.stack([planes[i].position for i in order])
    step = (positions[-1] - positions[0]) / (len(planes) - 1)
    problems = [text for text in (_tilt(step, first.normal), _gaps(heights, gaps), _drift(positions, step)) if text]
    if problems:
        raise InputError(
            "the slices of the DICOM series do not form an even grid",
            where=where,
            expected="equal steps along the slice normal",
            found=" and ".join(problems),
            todo=_GRID_TODO,
        )
    return order, planes[order[0]].affine(step)


def _check_parallel(first: Plane, plane: Plane, where: Path) -> None:
    axes = [np.concatenate([one.along_row, one.along_column]) for one in (first, plane)]
    if not np.allclose(axes[0], axes[1], atol=1e-3):
        angle = np.degrees(np.arccos(np.clip(first.normal @ plane.normal, -1, 1)))
        raise InputError(
            "the slices of the DICOM series are not parallel",
            where=where,
            found=f"planes turned by {angle:.1f} degrees" if angle > 0.05 else "in-plane rotation",
            todo="give every stack a folder of its own",
        )
    spacings = [(one.row_spacing, one.column_spacing) for one in (first, plane)]
    if not np.allclose(spacings[0], spacings[1], rtol=1e-3):
        found = " and ".join(f"{rows:g} x {columns:g} mm" for rows, columns in spacings)
        raise InputError(
            "the slices of the DICOM series differ in pixel spacing", where=where, found=found, todo=_GRID_TODO
        )


def _tilt(step: np.ndarray, normal: np.ndarray) -> str:
    angle = np.degrees(np.arccos(np.clip(step @ normal / np.linalg.norm(step), -1, 1)))
    return f"a gantry tilt of {angle:.1f} degrees" if angle > _TILT_TOLERANCE else ""


def _tolerance(step: float) -> float:
    return min(_POSITION_TOLERANCE, _STEP_TOLERANCE * step)


def _gaps(heights: np.ndarray, gaps: np.ndarray) -> str:
    even = np.linspace(heights[0], heights[-1], len(heights))
    if np.abs(heights - even).max() <= _tolerance(float(gaps.mean())):
        return ""
    usual = float(np.median(gaps))
    multiples = np.rint(gaps / usual)
    if multiples.min() >= 1 and np.abs(gaps - multiples * usual).max() <= _tolerance(usual):
        missing = int(multiples.sum()) - len(gaps)
        after = int(np.argmax(multiples)) + 1
        place = f"a gap of {gaps.max():.2f} mm after slice {after} where the step is {usual:.2f} mm"
        return f"{missing} missing slice{'s' if missing > 1 else ''} ({place})"
    return f"uneven gaps of {gaps.min():.2f} to {gaps.max():.2f} mm"


def _drift(positions: np.ndarray, step: np.ndarray) -> str:
    """Slices shifted within their plane, against a straight line from the first to the last."""
    direction = step / np.linalg.norm(step)
    offsets = positions - positions[0]
    sideways = np.linalg.norm(offsets - np.outer(offsets @ direction, direction), axis=1).max()
    return f"slices shifted sideways by up to {sideways:.2f} mm" if sideways > 0.5 else ""

"""What the audit keeps of every scan, from reading each of them once, in worker processes."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from medad_plugins.audit.thumbnails import Grid, grey, local_contrast, resize, to_unit_range, upright
from medad_plugins.data import Case, Scan, read_scan
from medad_plugins.data.class_folders import scan_stem
from medad_plugins.errors import InputError

__all__ = ["Signature", "Signatures", "read_signatures", "sign_scan"]

logger = logging.getLogger(__name__)

THUMBNAIL_SIZE = {2: 32, 3: 16}
DETAIL_SIZE = {2: 64, 3: 32}
# Gaussian widths in pixels of the detail grid: 0.7 to 3 shows single gyri of a head, 2 to 6 its larger parts
DETAIL_SCALES = (0.7, 3.0)
COARSE_SCALES = (2.0, 6.0)
_COARSE_STEP = 4
_SECONDS_BETWEEN_LINES = 10
# starting processes takes longer than reading so few
_FEW_SCANS = 200


@dataclass(frozen=True)
class Signature:
    """One scan in a few kilobytes.

    Attributes:
        digest: of the decoded pixels, whatever file type, bit depth or number of equal channels holds them.
        thumbnail: ``(32, 32)`` or ``(16, 16, 16)`` intensities 0..1.
        detail: ``(64, 64)`` or ``(32, 32, 32)`` local contrast, mean 0, norm 1, float16.
        coarse: ``(16, 16)`` or ``(8, 8, 8)`` local contrast of larger structures, norm 1.
        mean: of the intensities, in the scan's own unit.
        attributes: what a shortcut could be made of: size, intensity, border, spacing, file; numbers or names.
    """

    digest: bytes
    thumbnail: Grid
    detail: NDArray[np.float16]
    coarse: Grid
    mean: float
    attributes: dict[str, float | str]


@dataclass(frozen=True)
class Signatures:
    """Signatures of cases that could be read.

    Attributes:
        index: ``(n,)`` positions of these cases in the list that was read, ascending.
        items: their ``n`` signatures.
        unreadable: position and reason of every other case.
        seconds: the pass took.
    """

    index: NDArray[np.int64]
    items: list[Signature]
    unreadable: list[tuple[int, str]]
    seconds: float


def sign_scan(scan: Scan, path: Path) -> Signature:
    """Signature of a scan that was read from ``path`` (a file, or a folder with a DICOM series)."""
    own = grey(scan)
    picture = upright(own, scan.affine)
    unit = to_unit_range(picture, scan.stored_bits)
    dims = unit.ndim
    grid = resize(unit, DETAIL_SIZE[dims])
    coarse = _average(local_contrast(grid, *COARSE_SCALES), _COARSE_STEP)
    attributes = _file_attributes(path) | _grid_attributes(scan, own.shape) | _intensity_attributes(own)
    return Signature(
        digest=_digest(scan),
        thumbnail=resize(unit, THUMBNAIL_SIZE[dims]),
        detail=local_contrast(grid, *DETAIL_SCALES).astype(np.float16),
        coarse=coarse / max(float(np.linalg.norm(coarse)), 1e-6),
        mean=float(own.mean(dtype=np.float64)),
        attributes=attributes,
    )


def read_signatures(cases: Sequence[Case], workers: int | None = None) -> Signatures:
    """Read every scan once; those that cannot be read are reported and left out.

    Args:
        cases: with ``image`` each.
        workers: processes that read; None takes one a core, 0 none but this one.
    """
    start = time.monotonic()
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = cores if len(cases) >= _FEW_SCANS else 0
    loader: DataLoader[Signature | str] = DataLoader(
        _Scans([str(case["image"]) for case in cases]),
        batch_size=8,
        num_workers=workers,
        collate_fn=list,
        # a queue file a tensor would run out of file handles; arrays are sent by value
        prefetch_factor=4 if workers else None,
    )
    index: list[int] = []
    items: list[Signature] = []
    unreadable: list[tuple[int, str]] = []
    logged = start
    for batch in loader:
        for result in batch:
            position = len(index) + len(unreadable)
            if isinstance(result, Signature):
                index.append(position)
                items.append(result)
            else:
                unreadable.append((position, result))
        now, done = time.monotonic(), len(index) + len(unreadable)
        if now - logged > _SECONDS_BETWEEN_LINES:
            rate = done / (now - start)
            logger.info("Read %d of %d scans, %.0f a second.", done, len(cases), rate)
            logged = now
    seconds = time.monotonic() - start
    logger.info("Read %d scans in %.1f s, %d unreadable.", len(cases), seconds, len(unreadable))
    return Signatures(np.array(index, dtype=np.int64), items, unreadable, seconds)


class _Scans(Dataset[Any]):
    """Signatures by position; a scan that cannot be read gives the reason instead."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Signature | str:
        path = Path(self.paths[index])
        try:
            return sign_scan(read_scan(path), path)
        except InputError as error:
            return f"{error.what} (found {error.found})" if error.found is not None else error.what
        except Exception as error:  # one odd file must not end the audit of ten thousand
            return type(error).__name__


def _average(grid: Grid, step: int) -> Grid:
    shape = [part for size in grid.shape for part in (size // step, step)]
    return grid.reshape(shape).mean(tuple(range(1, 2 * grid.ndim, 2)))


def _digest(scan: Scan) -> bytes:
    """Equal for equal pixels on equal grids, whatever numbers they are stored as."""
    array = scan.array
    if scan.has_channels and (array == array[..., :1]).all():
        array = array[..., 0]
    if array.dtype.kind == "f" and np.isfinite(array).all() and np.abs(array).max(initial=0) < 2**31:
        whole = array.astype(np.int32)
        array = whole if np.array_equal(whole, array) else array.astype(np.float32)
    if array.dtype.kind in "iub":
        small = array.size == 0 or (array.min() >= 0 and array.max() <= 255)
        array = array.astype(np.uint8 if small else np.int64)
    digest = hashlib.blake2b(repr((array.shape, array.dtype.kind)).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _file_attributes(path: Path) -> dict[str, float | str]:
    files = [path] if path.is_file() else [child for child in path.iterdir() if child.is_file()]
    suffix = path.name[len(scan_stem(path.name)) :].lower().replace(".jpeg", ".jpg").replace(".tiff", ".tif")
    kind = "DICOM series" if path.is_dir() else suffix.removeprefix(".") or "no suffix"
    return {"file type": kind, "file size": float(sum(file.stat().st_size for file in files))}


def _grid_attributes(scan: Scan, shape: tuple[int, ...]) -> dict[str, float | str]:
    spacing = np.linalg.norm(scan.affine[:3, :3], axis=0)
    attributes: dict[str, float | str] = {
        "width": float(shape[0]),
        "height": float(shape[1]),
        "aspect ratio": shape[0] / shape[1],
        "channels": float(scan.array.shape[-1] if scan.has_channels else 1),
        "bit depth": float(scan.stored_bits),
        "pixel spacing": float(spacing[:2].mean().round(4)),
    }
    if len(shape) == 3:
        axes = "".join(str(code) for code in nibabel.orientations.aff2axcodes(scan.affine))
        attributes |= {"slices": float(shape[2]), "slice spacing": float(spacing[2].round(4)), "orientation": axes}
    return attributes


def _intensity_attributes(array: Grid) -> dict[str, float | str]:
    low, high = float(array.min()), float(array.max())
    edges = [np.take(array, (0, -1), axis=axis).ravel() for axis in range(array.ndim)]
    return {
        "mean intensity": float(array.mean(dtype=np.float64)),
        "standard deviation": float(array.std(dtype=np.float64)),
        "lowest intensity": low,
        "highest intensity": high,
        "border intensity": float(np.concatenate(edges).mean(dtype=np.float64)),
        "background share": float((array <= low + 0.05 * (high - low)).mean()),
    }

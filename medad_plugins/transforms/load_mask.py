"""Reading the lesion mask of a case."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from medad_plugins.data.nifti_file import nifti_forms
from medad_plugins.data.scan import Scan
from medad_plugins.data.scan_files import read_scan
from medad_plugins.errors import InputError

__all__ = ["read_mask", "read_mask_of"]

logger = logging.getLogger(__name__)


def read_mask(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    case_id: str = "",
    affine: NDArray | None = None,
    source: str | os.PathLike[str] = "",
) -> NDArray[np.bool_]:
    """The binary lesion mask of a case on its scan's own grid, ``(*spatial)`` in MONAI's axis order.

    Whatever is not 0 is lesion; in a JPEG, whose edges ring, what is above half of its highest value. A mask on another
    grid is brought onto the scan's by both affines (nearest neighbour; a lesion smaller than a voxel marks the voxel it
    lies in). Where a NIfTI file's qform and sform differ, those of mask and scan count by which the grids agree, if any
    do, for a program writes one of them into a mask that it makes. Where mask or scan does not say where it lies, a
    mask of the scan's shape is taken voxel by voxel.

    Args:
        path: of the mask.
        shape: of the scan.
        case_id: for error messages.
        affine: ``(4, 4)`` of the scan, voxel index to mm in RAS; None where it does not say where it lies.
        source: the scan's file, which may have a second affine.

    Raises:
        InputError: the file cannot be read as a mask; it lies elsewhere than the scan; it has another shape, and
            mask or scan does not say where it lies.
    """
    mask = read_scan(Path(path))
    values = _marked(mask, path)
    where = f"{path} of case {case_id}" if case_id else str(path)
    if affine is None or not mask.has_geometry:
        if values.shape != shape:
            who = "its scan does" if affine is None else "the mask does"
            raise InputError(
                f"the mask does not lie on the scan's grid, and {who} not say where it lies",
                where=where,
                expected=_size(shape),
                found=_size(values.shape),
                todo="list a mask of the scan's own size, or one with its affine",
            )
        if affine is not None and Path(path).name.lower().endswith((".nii", ".nii.gz")):
            _say_once(where)
        return values
    grid = shape + (1,) * (3 - len(shape))
    own = to_affine_nd(3, affine)
    pairs = [(of_scan, of_mask) for of_scan in _forms(source, own) for of_mask in _forms(path, mask.affine)]
    agreeing = [pair for pair in pairs if _agree(*pair, grid)]
    return _on_grid(values, shape, *(agreeing or pairs)[0], where)


def read_mask_of(case: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask of a scored case, which has ``mask`` (a path), ``case_id``, ``image`` and ``anomaly_map``."""
    anomaly_map = case["anomaly_map"]
    lies_somewhere = bool(case["image"].meta.get("has_geometry", True))
    affine = np.asarray(anomaly_map.affine) if lies_somewhere else None
    source = str(case["image"].meta.get("filename_or_obj", ""))
    return read_mask(case["mask"], tuple(anomaly_map.shape[1:]), str(case["case_id"]), affine, source)


def _forms(path: str | os.PathLike[str], own: NDArray) -> list[NDArray]:
    """The affine that a scan or mask is read with, and what else its file gives."""
    others = nifti_forms(Path(path)) if str(path) else []
    # a file that is not the scan's, e.g. because a host has turned it, says nothing of it
    return [own, *others] if any(np.allclose(other, own, atol=1e-3) for other in others) else [own]


def _agree(scan_affine: NDArray, mask_affine: NDArray, grid: tuple[int, ...]) -> bool:
    """Whether every voxel of the scan is a voxel of the mask's grid: axes along axes, a whole number of steps away."""
    to_mask = np.linalg.inv(mask_affine) @ scan_affine
    places = _corners(grid) @ to_mask.T
    return bool(
        np.abs(to_mask[:3, :3] - to_mask[:3, :3].round()).max() < 0.05 and np.abs(places - places.round()).max() < 0.1
    )


def _marked(mask: Scan, path: str | os.PathLike[str]) -> NDArray[np.bool_]:
    """What is marked, ``(*spatial)``: the highest of the colour channels; transparency is no colour."""
    values = mask.array
    if mask.has_channels:
        values = (values[..., :-1] if values.shape[-1] in (2, 4) else values).max(-1)
    floor = float(values.max()) / 2 if Path(path).suffix.lower() in (".jpg", ".jpeg") else 0.0
    marked: NDArray[np.bool_] = values > floor
    return marked


def _on_grid(
    marked: NDArray[np.bool_], shape: tuple[int, ...], scan_affine: NDArray, affine: NDArray, where: str
) -> NDArray[np.bool_]:
    """The mask, resampled to the scan's grid; images are volumes of one slice."""
    volume, grid = _volume(marked), shape + (1,) * (3 - len(shape))
    to_mask = np.linalg.inv(affine) @ scan_affine
    # an affine moves no voxel further than it moves the corners
    moved = _corners(grid) @ (to_mask - np.eye(4)).T
    if volume.shape == grid and np.abs(moved).max() < 0.5:
        return marked.reshape(shape)
    found = _nearest(volume, to_mask, grid)
    if not found.any():
        found = _lesion_points(volume, np.linalg.inv(to_mask), grid)
    if not found.any() and (volume.any() or _is_apart(volume.shape, to_mask, grid)):
        raise InputError(
            "the mask lies elsewhere than its scan",
            where=where,
            expected=_place(grid, scan_affine),
            found=_place(volume.shape, affine),
            todo="list the mask of this scan, or mend its affine",
        )
    return found.reshape(shape)


def _nearest(volume: NDArray[np.bool_], to_mask: NDArray, grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """What is marked where the scan's voxels have their centres, looked up around the lesion alone."""
    found = np.zeros(grid, dtype=bool)
    marked = np.argwhere(volume)
    if not len(marked):
        return found
    ends = np.stack(np.meshgrid(*np.stack([marked.min(0) - 1, marked.max(0) + 1], 1), indexing="ij")).reshape(3, -1)
    to_scan = np.linalg.inv(to_mask)
    corners = to_scan[:3, :3] @ ends + to_scan[:3, 3:]
    low = np.clip(np.floor(corners.min(1)), 0, grid).astype(int)
    high = np.clip(np.ceil(corners.max(1)) + 1, low, grid).astype(int)
    if (high > low).all():
        offset = to_mask[:3, :3] @ low + to_mask[:3, 3]
        options: dict[str, Any] = {"output_shape": tuple(high - low), "order": 0, "mode": "grid-constant", "cval": 0}
        part = affine_transform(volume.astype(np.uint8), to_mask[:3, :3], offset, **options)
        found[tuple(map(slice, low, high))] = part > 0
    return found


def _lesion_points(volume: NDArray[np.bool_], to_scan: NDArray, grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """The voxels of the scan in which centres of marked voxels lie, for lesions that fall between its own centres."""
    marked = np.argwhere(volume)
    places = np.floor(marked @ to_scan[:3, :3].T + to_scan[:3, 3] + 0.5).astype(np.int64)
    inside = places[((places >= 0) & (places < grid)).all(1)]
    found = np.zeros(grid, dtype=bool)
    found[tuple(inside.T)] = True
    return found


def _is_apart(size: tuple[int, ...], to_mask: NDArray, grid: tuple[int, ...]) -> bool:
    """Whether no voxel of the scan has its centre in an empty mask's grid, by the boxes around both."""
    corners = (_corners(grid) @ to_mask.T)[:, :3]
    return bool((corners.max(0) < -0.5).any() or (corners.min(0) > np.array(size) - 0.5).any())


def _volume(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return values.reshape(values.shape + (1,) * (3 - values.ndim))


def _corners(grid: tuple[int, ...]) -> NDArray[np.float64]:
    """``(8, 4)``, the indices of the corner voxels, with a 1 behind."""
    ends = np.stack(np.meshgrid(*([0, size - 1] for size in grid), [1], indexing="ij"))
    return ends.reshape(4, -1).T.astype(np.float64)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _place(grid: tuple[int, ...], affine: NDArray) -> str:
    corners = (_corners(grid) @ affine.T)[:, :3]
    low, high = (", ".join(f"{number:.0f}" for number in end) for end in (corners.min(0), corners.max(0)))
    return f"{_size(grid)} voxels from ({low}) to ({high}) mm"


@lru_cache(maxsize=1)
def _say_once(where: str) -> None:
    logger.warning("%s does not say where it lies: masks of the scan's shape are taken voxel by voxel", where)

"""The built-in sample cohort: generated head phantoms, written once below a cache folder."""

from __future__ import annotations

import csv
import io
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.data.head_phantom import HeadPhantom
from medad_plugins.data.phantom_lesions import LESIONS, add_lesion
from medad_plugins.errors import InputError

__all__ = ["LESIONS", "generate_case", "sample_anomalies", "sample_cohort"]

logger = logging.getLogger(__name__)

# Part of the folder's name: raise it whenever the generated cases change.
VERSION = 1
COHORT_SEED = 20260
# Axial slices are taken around the lateral ventricles (position along bottom-top in the field of view).
SLICE_POSITIONS = (0.06, 0.10)
VOXEL_MM = 4.0
ORIGIN_MM = (-94.0, -112.0, -76.0)
COLUMNS = ("image", "label", "mask", "split", "class")


@dataclass(frozen=True)
class _Layout:
    """How one of the two cohorts looks: voxels per axis, file name extension, (split, normal, abnormal) cases.

    ``first`` numbers the first split for the cases' seeds.
    """

    size: int
    extension: str
    splits: tuple[tuple[str, int, int], ...]
    first: int = 0


LAYOUTS = {
    2: _Layout(128, ".png", (("train", 200, 0), ("val", 60, 0), ("test", 60, 60))),
    3: _Layout(48, ".nii.gz", (("train", 60, 0), ("val", 39, 0), ("test", 20, 20))),
}
# abnormal cases to train on, for methods that learn from a few; beside the cohort, which nobody else should notice
ANOMALIES = (("train", 0, 10),)


def _layout(spatial_dims: int) -> _Layout:
    if spatial_dims not in LAYOUTS:
        raise InputError("there is no such sample cohort", where="spatial_dims", expected="2 or 3", found=spatial_dims)
    return LAYOUTS[spatial_dims]


def _positions(spatial_dims: int, size: int, slice_position: float) -> NDArray[np.float64]:
    """Positions ``(3, N)`` of the voxels in the field of view, -1..1 along left-right, back-front, bottom-top."""
    axis = (np.arange(size) + 0.5) * 2 / size - 1
    if spatial_dims == 3:
        return np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    # A picture shows the face up and the patient's right on the left, as radiologists look at it.
    back_front, left_right = np.meshgrid(-axis, -axis, indexing="ij")
    return np.stack([left_right, back_front, np.full_like(back_front, slice_position)]).reshape(3, -1)


def generate_case(
    spatial_dims: int, size: int, seed: int | Sequence[int], lesion: str | None = None
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Generate one head, with or without a lesion.

    The same seed with and without a lesion gives the same head with the same noise: outside of the mask the two
    images are equal.

    Args:
        spatial_dims: 2 for an axial slice (rows run from front to back), 3 for a volume (axes point right, front, up).
        size: pixels or voxels along each axis.
        seed: one or several integers that determine the case.
        lesion: one of :data:`LESIONS`, or None for a normal head.

    Returns:
        the image, float32 in 0..1, and the lesion's mask, uint8 0 or 1, both ``(size,) * spatial_dims``.

    Raises:
        InputError: for other than 2 or 3 spatial dimensions.
        ValueError: for an unknown lesion.

    Example:
        >>> head, _ = generate_case(2, 64, seed=7)
        >>> image, mask = generate_case(2, 64, seed=7, lesion="bright_blob")
        >>> bool(mask.any()), bool((image[mask == 0] == head[mask == 0]).all())
        (True, True)
    """
    _layout(spatial_dims)
    random = np.random.RandomState(seed)
    grid = (size,) * spatial_dims
    head = HeadPhantom(random, voxel=2 / size)
    points = _positions(spatial_dims, size, random.uniform(*SLICE_POSITIONS))
    # Drawn before the lesion, so that a lesion does not change the noise around it.
    noise = random.normal(size=points.shape[1] * 2).reshape(2, -1)
    tissue = head.tissue(points)
    changed = np.zeros(tissue.shape, dtype=bool)
    if lesion is not None:
        tissue, changed = add_lesion(head, tissue, points, lesion, random, grid)
    image = head.acquire(tissue, points, noise)
    return image.reshape(grid).astype(np.float32), changed.reshape(grid).astype(np.uint8)


@dataclass(frozen=True)
class _Case:
    """One row of the datalist and the seed that its files come from."""

    row: dict[str, str]
    seed: tuple[int, int, int]
    lesion: str | None


def _cases(layout: _Layout) -> list[_Case]:
    """All cases of the cohort in the order of its datalist."""
    cases = []
    for number, (split, normal, abnormal) in enumerate(layout.splits, layout.first):
        for index in range(normal + abnormal):
            lesion = list(LESIONS)[(index - normal) % len(LESIONS)] if index >= normal else None
            name = f"{split}_{index:03d}_{lesion or 'normal'}{layout.extension}"
            row = {
                "image": f"images/{name}",
                "label": str(int(lesion is not None)),
                "mask": f"masks/{name}" if lesion else "",
                "split": split,
                "class": lesion or "normal",
            }
            cases.append(_Case(row, (COHORT_SEED, number, index), lesion))
    return cases


def _datalist(cases: list[_Case]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(case.row for case in cases)
    return text.getvalue()


def _write_array(array: NDArray[np.uint8], path: Path) -> None:
    if array.ndim == 2:
        Image.fromarray(array).save(path)
        return
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = ORIGIN_MM
    nib.save(nib.Nifti1Image(array, affine), path)


def _write_cohort(folder: Path, spatial_dims: int, layout: _Layout) -> None:
    """Write all cases, and the datalist last."""
    cases = _cases(layout)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for case in cases:
        image, mask = generate_case(spatial_dims, layout.size, case.seed, case.lesion)
        _write_array(np.rint(image * 255).astype(np.uint8), folder / case.row["image"])
        if case.lesion:
            _write_array(mask * np.uint8(255 if spatial_dims == 2 else 1), folder / case.row["mask"])
    (folder / "datalist.csv").write_text(_datalist(cases), encoding="utf-8")


def _is_complete(folder: Path, layout: _Layout) -> bool:
    """Whether the folder holds the whole cohort: the very datalist and every file that it lists."""
    cases, datalist = _cases(layout), folder / "datalist.csv"
    if not datalist.is_file() or datalist.read_text(encoding="utf-8") != _datalist(cases):
        return False
    return all((folder / name).is_file() for case in cases for name in (case.row["image"], case.row["mask"]) if name)


def _install(finished: Path, folder: Path, layout: _Layout, trash: Path) -> None:
    """Move a finished cohort to its place, unless another process was faster; an incomplete folder there gives way."""
    try:
        os.rename(finished, folder)
    except OSError:
        if _is_complete(folder, layout):
            return
        os.rename(folder, trash)
        os.rename(finished, folder)


def _generate_below(parent: Path, name: str, spatial_dims: int, layout: _Layout) -> Path:
    """Generate the cohort as ``parent / name``, from a hidden folder beside it that nobody takes for the cohort."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}_", dir=parent) as workplace:
        logger.info("Generating the built-in sample cohort (%dD head phantoms) once ...", spatial_dims)
        start = time.perf_counter()
        finished = Path(workplace) / "finished"
        _write_cohort(finished, spatial_dims, layout)
        _install(finished, parent / name, layout, Path(workplace) / "trash")
        logger.info("The sample cohort is in %s (%.1f s).", parent / name, time.perf_counter() - start)
    return parent / name


def _cache_folders() -> list[Path]:
    """Where the cohort may be kept, best first."""
    temporary = Path(tempfile.gettempdir()) / "medad"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    try:
        # The XDG specification wants relative paths ignored.
        return [Path(cache) / "medad" if Path(cache).is_absolute() else Path.home() / ".cache" / "medad", temporary]
    except RuntimeError:  # no home folder, as for a service account
        return [temporary]


def sample_cohort(spatial_dims: int = 2, cache_dir: Path | None = None) -> Path:
    """Folder of the built-in sample cohort, generated at the first call.

    It holds ``datalist.csv`` (image, label, mask, split, class), ``images/`` and ``masks/``. In 2D: 128 x 128 8-bit
    grey PNG, 200 normal cases to train, 60 held out, 60 normal and 60 abnormal to test. In 3D: 48 x 48 x 48 8-bit NIfTI
    of 4 mm voxels, 60 / 39 / 20 + 20. The files depend on nothing but the version in the folder's name.

    Args:
        spatial_dims: 2 or 3.
        cache_dir: folder below which the cohort's own folder is kept; by default the user's cache folder, or the
            system's folder for temporary files where that cannot be written.

    Raises:
        InputError: for other dimensions, or when there is no folder that can be written.

    Example:
        >>> folder = sample_cohort(2)
        >>> sorted(path.name for path in folder.iterdir())
        ['datalist.csv', 'images', 'masks']
    """
    return _kept(f"sample_cohort_v{VERSION}_{spatial_dims}d", spatial_dims, _layout(spatial_dims), cache_dir)


def sample_anomalies(spatial_dims: int = 2, cache_dir: Path | None = None) -> Path:
    """Folder of ten abnormal cases to train on, which go with the sample cohort, in the same form.

    They are for methods that learn from a few labelled anomalies, and in a folder of their own: the cohort has normal
    cases alone to train on.

    Args:
        spatial_dims, cache_dir: see `sample_cohort`.

    Raises:
        InputError: as `sample_cohort` does.
    """
    layout = replace(_layout(spatial_dims), splits=ANOMALIES, first=len(LAYOUTS[spatial_dims].splits))
    return _kept(f"sample_anomalies_v{VERSION}_{spatial_dims}d", spatial_dims, layout, cache_dir)


def _kept(name: str, spatial_dims: int, layout: _Layout, cache_dir: Path | None) -> Path:
    parents = [Path(cache_dir)] if cache_dir is not None else _cache_folders()
    for parent in parents:
        if _is_complete(parent / name, layout):
            return parent / name
    for parent in parents:
        try:
            return _generate_below(parent, name, spatial_dims, layout)
        except OSError as error:
            logger.info("The sample cohort cannot be written below %s (%s).", parent, error.strerror)
    raise InputError(
        "the sample cohort cannot be written",
        where=", ".join(str(parent) for parent in parents),
        todo="set XDG_CACHE_HOME to a folder that can be written, or give dataset_dir",
    )

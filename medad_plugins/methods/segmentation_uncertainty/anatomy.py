"""Labels of normal anatomy to train on: from files, or parcels of each scan's body."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import to_affine_nd
from monai.transforms import Transform
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter
from scipy.spatial import cKDTree
from torch import Tensor

from medad_plugins.data import Case, cached_dataset
from medad_plugins.data.scan_files import read_scan
from medad_plugins.errors import InputError
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["Anatomy", "LoadAnatomyd", "ParcelsOfBodyd", "anatomy_dataset", "read_anatomy"]

KEY = "anatomy"
_MOST_CLASSES = 256


def read_anatomy(path: str | Path, image: MetaTensor) -> Tensor:
    """A map of labels on the grid of a prepared scan, ``(1, *spatial)``, whole numbers; 0 outside of the file's grid.

    The label of each pixel is the one that lies there by both affines.

    Args:
        path: of the file.
        image: the scan ``(C, *spatial)``, as `medad_plugins.transforms.ScanPreprocessing` gives it.

    Raises:
        InputError: the file cannot be read, has channels or numbers that are no labels, or has nothing to say here.
    """
    labels = read_scan(Path(path))
    values = labels.array
    if labels.has_channels:
        raise InputError("a map of labels has colours", where=path, expected="one number for each pixel")
    if values.min() < 0 or values.max() >= _MOST_CLASSES or not np.array_equal(values, np.round(values)):
        found = f"{values.min():g} to {values.max():g}"
        raise InputError("the file is no map of labels", where=path, expected="whole numbers of 0 to 255", found=found)
    shape = tuple(image.shape[1:])
    grid = shape + (1,) * (3 - len(shape))
    to_labels = np.linalg.inv(labels.affine) @ to_affine_nd(3, np.asarray(image.affine, dtype=np.float64))
    volume = values.reshape(values.shape + (1,) * (3 - values.ndim)).astype(np.int16)
    found = affine_transform(volume, to_labels[:3, :3], to_labels[:3, 3], output_shape=grid, order=0)
    if volume.any() and not found.any():
        todo = "list the labels of this scan, or mend their affine"
        raise InputError("the labels lie elsewhere than their scan", where=path, todo=todo)
    return torch.from_numpy(found.reshape((1, *shape)).astype(np.float32))


class LoadAnatomyd(Transform):
    """Adds ``anatomy``, see `read_anatomy`, to a prepared case.

    Args:
        column: key of the file's path.
    """

    def __init__(self, column: str) -> None:
        self.column = column

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        return {**data, KEY: read_anatomy(data[self.column], data["image"])}


class ParcelsOfBodyd(Transform):
    """Adds ``anatomy`` to a prepared case: parcels of its body, for scans that have no labels.

    Superpixels that start from a grid in the box around the body: each pixel belongs to the parcel that is nearest by
    its place and by the rank of its smoothed intensity, and the parcels' middles follow, some times. So the parcels of
    scans that lie alike have the same meaning, brightness and contrast do not count, and every site finds the same.

    Args:
        parcels: along each axis.
        steps: how often the middles follow.

    Reference:
        Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI 34, 2012.
    """

    def __init__(self, parcels: int = 4, steps: int = 5) -> None:
        if parcels < 1:
            raise ValueError(f"parcels must be at least 1, got {parcels}.")
        self.parcels, self.steps = parcels, steps

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        image = plain_tensor(data["image"]).float().mean(0).numpy()
        smooth = gaussian_filter(image, 1.0)
        body = smooth > 0.15 * smooth.max()
        labels = np.zeros(smooth.shape, dtype=np.float32)
        labels[body] = 1 + self._nearest(smooth[body], np.argwhere(body))
        return {**data, KEY: torch.from_numpy(labels)[None]}

    def _nearest(self, values: NDArray[np.float32], places: NDArray[np.intp]) -> NDArray[np.intp]:
        """The parcel of each pixel of the body, from its value ``(n,)`` and place ``(n, axes)``."""
        low, high = places.min(0), places.max(0) + 1
        ranks = values.argsort().argsort() / len(values)
        points = np.column_stack([(places - low) / (high - low), ranks]) * self.parcels
        axes = [np.arange(self.parcels) + 0.5] * places.shape[1]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, places.shape[1])
        middles = np.column_stack([grid, np.full(len(grid), self.parcels / 2)])
        for _ in range(self.steps):
            nearest = cKDTree(middles).query(points)[1]
            counts = np.bincount(nearest, minlength=len(middles))
            sums = np.column_stack([np.bincount(nearest, axis, len(middles)) for axis in points.T])
            middles = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], middles)
        return np.asarray(nearest)


class Anatomy:
    """Where the labels of normal anatomy come from, and how many classes there are.

    Args:
        cases: normal ones to train on.
        column: of the list, whose files hold the labels; a list without it has `ParcelsOfBodyd`'s.
        parcels: of these along each axis.
        spatial_dims: of the scans.

    Attributes:
        from_files: whether the list has labels.

    Example:
        >>> from medad_plugins.data import Cohort
        >>> anatomy = Anatomy(Cohort().train, parcels=3)
        >>> anatomy.from_files, anatomy.classes
        (False, 10)
    """

    def __init__(self, cases: Sequence[Case], column: str = "anatomy", parcels: int = 4, spatial_dims: int = 2) -> None:
        self.column, self.parcels, self.spatial_dims = column, parcels, spatial_dims
        self._cases = [case for case in cases if case.get(column)]
        self.from_files = bool(self._cases)

    @cached_property
    def classes(self) -> int:
        """How many classes there are, background among them.

        Raises:
            InputError: the labels say nothing but background, or a file is missing.
        """
        if not self.from_files:
            return int(self.parcels**self.spatial_dims) + 1
        highest = max(int(read_scan(Path(case[self.column])).array.max()) for case in self.labelled(self._cases))
        if highest < 1:
            where = f"column {self.column}"
            raise InputError("the labels of the anatomy are empty", where=where, found=f"{len(self._cases)} files of 0")
        return highest + 1

    def labelled(self, cases: Sequence[Case]) -> list[Case]:
        """The cases that can be trained on, with the paths of their labels as they are found.

        Raises:
            InputError: none has labels where others had, or a file is missing.
        """
        if not self.from_files:
            return list(cases)
        found = [case for case in cases if case.get(self.column)]
        if not found:
            todo = "list the labels of the anatomy"
            raise InputError("no case has labels of its anatomy", where=f"column {self.column}", todo=todo)
        return [{**case, self.column: _path(str(case[self.column]), Path(str(case["image"])))} for case in found]

    def step(self) -> Transform:
        """The transform that adds them to a prepared case."""
        return LoadAnatomyd(self.column) if self.from_files else ParcelsOfBodyd(self.parcels)


def anatomy_dataset(data: Sequence[Case], preprocessing: Callable[..., Any], anatomy: Anatomy) -> Any:
    """Prepared cases with ``anatomy`` ``(1, *spatial)``; those without labels, where others have some, stay out.

    Args:
        data: cases.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        anatomy: where the labels come from.

    Raises:
        InputError: as `Anatomy.labelled`, `read_anatomy` and `medad_plugins.data.cached_dataset` do.
    """
    return cached_dataset(anatomy.labelled(data), [preprocessing, anatomy.step()])


def _path(text: str, image: Path) -> str:
    """The file that a column names, below one of the folders that the scan lies in."""
    for folder in image.parents:
        if (folder / text).is_file():
            return str(folder / text)
    todo = "write its path as the scan's is written, or leave the column empty"
    raise InputError("a map of labels is missing", where=text, todo=todo)

"""Labels of normal anatomy to train on: from files, or found in the intensities of each scan."""

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
from torch import Tensor

from medad_plugins.data import Case, cached_dataset
from medad_plugins.data.scan_files import read_scan
from medad_plugins.errors import InputError
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["Anatomy", "LoadAnatomyd", "TissueClassesd", "anatomy_dataset", "read_anatomy"]

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


class TissueClassesd(Transform):
    """Adds ``anatomy`` to a prepared case: background, and classes of the smoothed intensities of the scan itself.

    Weak labels for scans that have none, as a program for tissue classes would give them: k-means in one dimension of
    what is brighter than a twentieth, darkest first. Each scan by itself, so that brightness and contrast do not count,
    and the same labels at every site.

    Args:
        classes: of the foreground.
        sigma: Gaussian smoothing before that, in pixels.
    """

    def __init__(self, classes: int = 4, sigma: float = 1.0) -> None:
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}.")
        self.classes, self.sigma = classes, sigma

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        image = plain_tensor(data["image"]).float().mean(0).numpy()
        smooth = gaussian_filter(image, self.sigma)
        inside = smooth > 0.05 * smooth.max()
        labels = np.zeros(smooth.shape, dtype=np.float32)
        labels[inside] = 1 + np.searchsorted(_limits(smooth[inside], self.classes), smooth[inside])
        return {**data, KEY: torch.from_numpy(labels)[None]}


def _limits(values: NDArray[np.float32], classes: int) -> NDArray[np.float64]:
    """Between the means of k-means in one dimension, from quantiles on."""
    centres = np.quantile(values, (np.arange(classes) + 0.5) / classes)
    for _ in range(20):
        limits = (centres[1:] + centres[:-1]) / 2
        places = np.searchsorted(limits, values)
        counts = np.bincount(places, minlength=classes)
        sums = np.bincount(places, weights=values, minlength=classes)
        centres = np.where(counts > 0, sums / np.maximum(counts, 1), centres)
    return np.asarray((centres[1:] + centres[:-1]) / 2)


class Anatomy:
    """Where the labels of normal anatomy come from, and how many classes there are.

    Args:
        cases: normal ones to train on.
        column: of the list, whose files hold the labels; a list without it has `TissueClassesd`'s.
        tissues: classes of the foreground of these.

    Attributes:
        from_files: whether the list has labels.

    Example:
        >>> from medad_plugins.data import Cohort
        >>> anatomy = Anatomy(Cohort().train, tissues=3)
        >>> anatomy.from_files, anatomy.classes
        (False, 4)
    """

    def __init__(self, cases: Sequence[Case], column: str = "anatomy", tissues: int = 4) -> None:
        self.column, self.tissues = column, tissues
        self._cases = [case for case in cases if case.get(column)]
        self.from_files = bool(self._cases)

    @cached_property
    def classes(self) -> int:
        """How many classes there are, background among them.

        Raises:
            InputError: the labels say nothing but background, or a file is missing.
        """
        if not self.from_files:
            return self.tissues + 1
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
        return LoadAnatomyd(self.column) if self.from_files else TissueClassesd(self.tissues)


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

"""Lesions of a case: the connected components of its mask, and what a map makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["Lesions", "false_components", "find_lesions"]


@dataclass(frozen=True)
class Lesions:
    """The lesions of one case.

    Attributes:
        owner: for each pixel of the mask in the array's order, the number of its lesion from 0, ``(P,)``.
        sizes: pixels of each lesion, ``(L,)``.
    """

    owner: NDArray[np.intp]
    sizes: NDArray[np.intp]

    def highest(self, values: NDArray) -> NDArray:
        """Highest of the values ``(P,)`` within each lesion, ``(L,)``: at any lower threshold the lesion is found."""
        highest = np.full(self.sizes.size, -np.inf)
        np.maximum.at(highest, self.owner, values)
        return highest


def _components(binary: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Components numbered from 1; pixels that share an edge, a corner or, in 3D, a face are neighbours."""
    labels, count = ndimage.label(binary, structure=np.ones((3,) * binary.ndim, dtype=bool))
    return labels, count


def _box(binary: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds all that is set; None where nothing is."""
    boxes = ndimage.find_objects(binary.view(np.uint8))
    return boxes[0] if boxes else None


def find_lesions(truth: NDArray[np.bool_]) -> Lesions:
    """Label a mask ``(*spatial)`` of one, two or three dimensions with full connectivity.

    Example:
        >>> mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1]], dtype=bool)
        >>> find_lesions(mask).sizes.tolist()  # neighbours may share a corner
        [2, 1]
    """
    box = _box(truth)
    if box is None:
        return Lesions(np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp))
    inside = truth[box]
    labels, _ = _components(inside)
    owner = labels[inside].astype(np.intp) - 1
    return Lesions(owner, np.bincount(owner))


def false_components(
    anomaly_map: NDArray, truth: NDArray[np.bool_] | None, thresholds: Sequence[float]
) -> NDArray[np.intp]:
    """How many connected components of ``map > threshold`` touch no lesion, per threshold, ``(T,)``.

    Args:
        anomaly_map: ``(*spatial)``.
        truth: mask of the same shape; None where there is no lesion.
        thresholds: in the map's units.

    Example:
        >>> false_components(np.array([0.9, 0.0, 0.6, 0.0]), np.array([1, 0, 0, 0], dtype=bool), [0.5, 0.8]).tolist()
        [1, 0]
    """
    counts = np.zeros(len(thresholds), dtype=np.intp)
    for index in np.argsort(thresholds, kind="stable"):
        above = anomaly_map > thresholds[index]
        box = _box(above)
        if box is None:
            break
        # what is above the next threshold lies within what is above this one
        anomaly_map, above, truth = anomaly_map[box], above[box], None if truth is None else truth[box]
        labels, count = _components(above)
        touching = 0 if truth is None else np.unique(labels[truth & above]).size
        counts[index] = count - touching
    return counts

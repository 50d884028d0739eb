"""Where dark organs are, the lungs of chest radiographs above all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.errors import InputError
from medad_plugins.synthesis.body import FindBodyd

__all__ = ["FindDarkOrgansd", "find_organ"]

BINS = 256


def _curves(image: NDArray[np.int64], tiles: list[list[slice]], clip: float) -> NDArray[np.float32]:
    """For each tile the clipped cumulative histogram ``(*tiles, BINS)``, 0..1."""
    curves = np.empty([len(axis) for axis in tiles] + [BINS], dtype=np.float32)
    for place in itertools.product(*[range(len(axis)) for axis in tiles]):
        values = image[tuple(axis[i] for axis, i in zip(tiles, place))]
        counts = np.bincount(values.ravel(), minlength=BINS).astype(float)
        limit = max(clip * values.size, 1.0)
        excess = np.maximum(counts - limit, 0).sum()
        counts = np.minimum(counts, limit) + excess / BINS
        curves[place] = np.cumsum(counts) / values.size
    return curves


def equalised(image: NDArray[np.float32], clip: float = 0.01, tiles: int = 8) -> NDArray[np.float32]:
    """Contrast-limited adaptive histogram equalisation of ``(*spatial)``, in any dimension.

    Args:
        image: any range.
        clip: largest share of a tile's voxels in one of 256 bins; the rest is spread over all.
        tiles: along each axis.

    Returns:
        ``(*spatial)``, 0 at the lowest and 1 at the highest.
    """
    low, high = float(image.min()), float(image.max())
    bins = np.minimum((image - low) / max(high - low, 1e-12) * BINS, BINS - 1).astype(np.int64)
    ends = [np.linspace(0, edge, min(tiles, edge) + 1).round().astype(int) for edge in image.shape]
    parts = [[slice(int(a), int(b)) for a, b in itertools.pairwise(axis)] for axis in ends]
    curves = _curves(bins, parts, clip)
    result = np.zeros(image.shape, dtype=np.float32)
    lower: list[NDArray[Any]] = []
    share: list[NDArray[np.float32]] = []
    for along, edge in zip(ends, image.shape):
        middles = (along[:-1] + along[1:] - 1) / 2
        position = np.interp(np.arange(edge), middles, np.arange(len(middles)))
        lower.append(np.minimum(position.astype(int), max(len(middles) - 2, 0)))
        share.append((position - lower[-1]).astype(np.float32))
    for corner in itertools.product((0, 1), repeat=image.ndim):
        last = [count - 1 for count in curves.shape[:-1]]
        tile = [np.minimum(low_tile + step, end) for low_tile, step, end in zip(lower, corner, last)]
        looked_up: NDArray[np.float32] = curves[(*np.ix_(*tile), bins)]
        for place, (part, step) in enumerate(zip(share, corner)):
            weight = part if step else 1 - part
            looked_up = looked_up * weight.reshape([-1 if a == place else 1 for a in range(image.ndim)])
        result += looked_up
    span = float(result.max() - result.min())
    return (result - result.min()) / max(span, 1e-12)


def otsu(values: NDArray[np.float32]) -> float:
    """The threshold, of 256 equal bins between 0 and 1, that leaves the least variance within both classes."""
    counts, edges = np.histogram(values, BINS, (0, 1))
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), np.cumsum(counts[::-1])[::-1]
    sums, back = np.cumsum(counts * middles), np.cumsum((counts * middles)[::-1])[::-1]
    means, others = sums / np.maximum(below, 1), back / np.maximum(above, 1)
    between = below[:-1] * above[1:] * np.square(means[:-1] - others[1:])
    return float(middles[int(np.argmax(between))])


class FindDarkOrgansd(MapTransform):
    """Adds a mask of dark organs inside the body: dark, not black, and not touching the border of the image.

    Equalisation, Otsu's threshold, opening, removal of pieces at the border, dilation, removal of small pieces.
    Deterministic, so that it is cached with the image.

    Args:
        keys: the image ``(C, *spatial)``.
        body_key: where the mask goes, ``(1, *spatial)`` float32, 0 or 1; empty where nothing is found.
        smallest: edge of the square (cube) whose size a piece must have, a fraction of the image's side; the paper's
            400 of 256 x 256 pixels.

    Reference:
        Sato et al., "Anatomy-aware self-supervised learning for anomaly detection in chest radiographs", iScience 2023.
    """

    def __init__(self, keys: KeysCollection = "image", body_key: str = "body", smallest: float = 20 / 256) -> None:
        super().__init__(keys)
        self.body_key, self.smallest = body_key, smallest

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        case = dict(data)
        image = equalised(np.asarray(case[self.keys[0]], dtype=np.float32).mean(0))
        around = np.ones((3,) * image.ndim, dtype=bool)
        dark = ndimage.binary_opening((image > 0) & (image <= otsu(image)), around)
        pieces, count = ndimage.label(dark, around)
        faces = [np.take(pieces, end, axis) for axis in range(image.ndim) for end in (0, -1)]
        at_border = np.unique(np.concatenate([face.ravel() for face in faces]))
        organs = ndimage.binary_dilation(~np.isin(pieces, [0, *at_border]), around) if count else dark
        pieces, _ = ndimage.label(organs, around)
        least = self.smallest**image.ndim * image.size
        large = np.flatnonzero(np.bincount(pieces.ravel()) >= least)
        organs = np.isin(pieces, large[large > 0])
        case[self.body_key] = torch.from_numpy(organs[None].astype(np.float32))
        return case


ORGANS: dict[str, type[FindBodyd | FindDarkOrgansd]] = {"body": FindBodyd, "lungs": FindDarkOrgansd}


def find_organ(organ: str = "body") -> Callable[..., Any]:
    """The transform that adds the mask ``body`` of an organ: ``"body"`` for all of the body, or ``"lungs"``.

    Raises:
        InputError: for another organ.
    """
    if organ not in ORGANS:
        raise InputError("the organ is unknown", where="organ", expected=" or ".join(ORGANS), found=organ)
    return ORGANS[organ]()

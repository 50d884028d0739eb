"""Patches of whole slides: which squares hold tissue or tumour, and cutting them out.

OpenSlide reads the slides; it is an optional package.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from medad_plugins.errors import InputError

__all__ = ["Annotation", "cut", "patch_mask", "read_annotation", "share_out", "tissue_squares", "tumour_squares"]

# a square is judged on this many pixels along its side
TISSUE_PIXELS, TUMOUR_PIXELS = 8, 16
LEAST_TISSUE = 0.5
LEAST_TUMOUR = 0.25
# below this saturation even the stained part of an empty slide lies
LEAST_SATURATION = 0.05

Polygon = list[tuple[float, float]]
Squares = list[tuple[int, int]]


class Annotation:
    """Outlines of tumour, and of healthy islands in it, in pixels of the slide's highest resolution."""

    def __init__(self, tumour: Sequence[Polygon], healthy: Sequence[Polygon]) -> None:
        self.tumour, self.healthy = tumour, healthy

    def draw(self, left: float, top: float, size: tuple[int, int], step: float) -> Image.Image:
        """255 where there is tumour, as a picture of ``(columns, rows)`` with ``step`` slide pixels a pixel."""
        picture = Image.new("L", size)
        draw = ImageDraw.Draw(picture)
        for polygons, value in ((self.tumour, 255), (self.healthy, 0)):
            for polygon in polygons:
                points = [((x - left) / step, (y - top) / step) for x, y in polygon]
                if len(points) > 2:
                    draw.polygon(points, fill=value, outline=value)
        return picture


def read_annotation(path: Path) -> Annotation:
    """Outlines that ASAP wrote: groups _0, _1 and Tumor are tumour, _2 and Exclusion are not.

    Raises:
        InputError: the file is no such XML.
    """
    tumour: list[Polygon] = []
    healthy: list[Polygon] = []
    try:
        for annotation in ElementTree.parse(path).getroot().iter("Annotation"):
            corners = sorted(annotation.iter("Coordinate"), key=lambda corner: float(corner.attrib["Order"]))
            polygon = [(float(corner.attrib["X"]), float(corner.attrib["Y"])) for corner in corners]
            is_healthy = annotation.attrib.get("PartOfGroup") in ("_2", "Exclusion")
            (healthy if is_healthy else tumour).append(polygon)
    except (OSError, ElementTree.ParseError, KeyError, ValueError) as error:
        todo = "download the annotations again"
        raise InputError("an annotation cannot be read", where=path, expected="XML by ASAP", todo=todo) from error
    return Annotation(tumour, healthy)


@functools.lru_cache(maxsize=2)
def _slide(path: Path) -> Any:
    """The open slide; patches of one slide come one after the other."""
    try:
        openslide = importlib.import_module("openslide")
    except ImportError as error:
        todo = "pip install openslide-python openslide-bin"
        raise InputError("the package that reads slides is missing", expected="openslide", todo=todo) from error
    try:
        return openslide.OpenSlide(str(path))
    except (openslide.OpenSlideError, OSError) as error:
        raise InputError("the slide cannot be read", where=path, todo="download it again") from error


def tissue_squares(path: Path, size: int) -> Squares:
    """Upper left corners of the squares of a grid that are tissue to at least half.

    Tissue is what is more saturated than Otsu's threshold on the slide's overview; empty glass is white or black.

    Args:
        path: the slide.
        size: side of a square in pixels of the highest resolution.
    """
    overview = _overview(path, size)
    low, high = overview.min(axis=2).astype(float), overview.max(axis=2).astype(float)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    stained = saturation > max(_otsu(saturation), LEAST_SATURATION)
    return _squares(stained, size, TISSUE_PIXELS, LEAST_TISSUE)


def tumour_squares(path: Path, annotation: Annotation, size: int) -> Squares:
    """Upper left corners of the squares that are tumour to at least a quarter; the fullest one where none is."""
    columns, rows = (side // size * TUMOUR_PIXELS for side in _slide(path).dimensions)
    inside = np.asarray(annotation.draw(0, 0, (columns, rows), size / TUMOUR_PIXELS)) > 0
    squares = _squares(inside, size, TUMOUR_PIXELS, LEAST_TUMOUR)
    if squares or not inside.any():
        return squares
    return _squares(inside, size, TUMOUR_PIXELS, float(_shares(inside, TUMOUR_PIXELS).max()))


def cut(path: Path, left: int, top: int, size: int) -> Image.Image:
    """A patch in RGB, at the highest resolution."""
    return _slide(path).read_region((left, top), 0, (size, size)).convert("RGB")


def patch_mask(annotation: Annotation, left: int, top: int, size: int) -> Image.Image:
    """255 where a patch is tumour."""
    return annotation.draw(left, top, (size, size), 1.0)


def share_out(total: int, capacities: Sequence[int]) -> list[int]:
    """Shares that add up to ``total`` (or to all there is), as equal as the capacities allow."""
    shares = [0] * len(capacities)
    left = min(total, sum(capacities))
    while left:
        hungry = [index for index, share in enumerate(shares) if share < capacities[index]]
        each = max(1, left // len(hungry))
        for index in hungry:
            portion = min(each, capacities[index] - shares[index], left)
            shares[index] += portion
            left -= portion
    return shares


def _overview(path: Path, size: int) -> NDArray[np.uint8]:
    """The slide in RGB with `TISSUE_PIXELS` pixels along a square's side: ``(rows, columns, 3)``."""
    slide = _slide(path)
    columns, rows = (side // size for side in slide.dimensions)
    if not columns or not rows:
        found = "{} x {} pixels".format(*slide.dimensions)
        raise InputError("the slide is smaller than a patch", where=path, expected=f"{size} pixels", found=found)
    level = slide.get_best_level_for_downsample(size / TISSUE_PIXELS)
    scale = slide.level_downsamples[level]
    region = slide.read_region((0, 0), level, (round(columns * size / scale), round(rows * size / scale)))
    return np.asarray(
        region.convert("RGB").resize((columns * TISSUE_PIXELS, rows * TISSUE_PIXELS), Image.Resampling.BOX)
    )


def _shares(inside: NDArray[np.bool_], pixels: int) -> NDArray[np.float64]:
    """The share of each square that is inside, ``(rows, columns)``; a square has ``pixels`` along its side."""
    rows, columns = (side // pixels for side in inside.shape)
    return inside.reshape(rows, pixels, columns, pixels).mean(axis=(1, 3))


def _squares(inside: NDArray[np.bool_], size: int, pixels: int, least: float) -> Squares:
    return [(int(column) * size, int(row) * size) for row, column in np.argwhere(_shares(inside, pixels) >= least)]


def _otsu(values: NDArray[np.float64]) -> float:
    """The threshold between two classes of values in 0..1 that separates their means best (Otsu, 1979)."""
    counts, edges = np.histogram(values, bins=256, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = below * above * (mass / below - (mass[-1] - mass) / above) ** 2
    return float(edges[1:][np.nanargmax(np.nan_to_num(between, nan=-1.0))])

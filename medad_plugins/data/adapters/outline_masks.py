"""Masks from boxes, ellipses and polygons that annotators drew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw

from medad_plugins.data.adapters.published_scan import Convert, PublishedScan
from medad_plugins.data.dicom_file import read_dicom
from medad_plugins.data.scan_files import PICTURE_SUFFIXES
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path

__all__ = ["Outline", "box", "draw_outlines", "image_size", "outline_masks"]


@dataclass(frozen=True)
class Outline:
    """A shape in pixels: ``rectangle`` and ``ellipse`` by two corners, ``polygon`` by its points, each (x, y)."""

    shape: str
    points: tuple[tuple[float, float], ...]


def box(x: float, y: float, width: float, height: float) -> Outline:
    """The pixels whose centres lie in a box; its corner ``(x, y)`` is the upper left one."""
    return Outline("rectangle", ((round(x), round(y)), (round(x + width) - 1, round(y + height) - 1)))


def draw_outlines(outlines: Sequence[Outline], size: tuple[int, int]) -> Image.Image:
    """The union of the shapes, 255 inside, as a picture of ``(columns, rows)``; what lies outside is cut off."""
    picture = Image.new("L", size)
    draw = ImageDraw.Draw(picture)
    for outline in outlines:
        if outline.shape == "polygon":
            if len(outline.points) > 2:
                draw.polygon(outline.points, fill=255, outline=255)
            continue
        (left, top), (right, bottom) = outline.points
        if right >= left and bottom >= top:
            (draw.ellipse if outline.shape == "ellipse" else draw.rectangle)((left, top, right, bottom), fill=255)
    return picture


def image_size(path: Path) -> tuple[int, int]:
    """``(columns, rows)`` of a picture or a DICOM file, from its header.

    Raises:
        InputError: the file cannot be read.
    """
    if path.name.lower().endswith(PICTURE_SUFFIXES):
        try:
            with Image.open(path) as picture:
                return picture.size
        except OSError as error:
            raise InputError("the image is truncated or damaged", where=path, todo="copy it again") from error
    header = read_dicom(path, pixels=False)
    rows, columns = header.get("Rows"), header.get("Columns")
    if not rows or not columns:
        raise InputError("the DICOM file holds no image", where=path, todo="download it again")
    return int(columns), int(rows)


def outline_masks(outlines: Mapping[Path, Sequence[Outline]], folder: Path) -> Convert:
    """Write ``<folder>/<image name>.png`` for an abnormal scan that has outlines, named by its image."""

    def convert(scan: PublishedScan) -> PublishedScan:
        shapes = outlines.get(scan.image)
        if not shapes or not scan.label:
            return scan
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{scan.image.stem}.png"
        with atomic_path(path) as temporary:
            draw_outlines(shapes, image_size(scan.image)).save(temporary)
        return replace(scan, mask=path)

    return convert

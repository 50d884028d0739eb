"""Pictures of cases (Pillow: tens of milliseconds each)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import nibabel as nib
import numpy as np
from monai.data.utils import affine_to_spacing, to_affine_nd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_dilation

from medad_plugins.data.upright import upright_turn
from medad_plugins.scorers import Calibration

__all__ = [
    "Plane",
    "across_planes",
    "axial_planes",
    "case_caption",
    "colour_range",
    "colour_table",
    "overlay_picture",
    "plane_pictures",
    "scan_planes",
]

PANEL = 256  # pixels, the longer side of a scan in the picture
_GAP, _BAR, _BAR_TEXT, _LINE = 10, 12, 46, 30
_BACKGROUND, _TEXT, _DIM = (16, 17, 20), (232, 234, 237), (150, 154, 160)
_FLAGGED, _UNFLAGGED = (200, 48, 48), (62, 98, 122)
MASK_COLOUR, TRUTH_COLOUR = (64, 224, 255), (124, 252, 92)  # of the contours; neither is on the heat map's scale
_COLOUR_MAP = "inferno"
_OPACITY = 0.65  # of the heat map over the scan, where the map is at the top of its scale


@dataclass(frozen=True)
class Plane:
    """One slice to show, rows first.

    Attributes:
        scan: ``(rows, columns)`` grey or ``(rows, columns, 3)``, 0..1.
        anomaly_map, mask: ``(rows, columns)``.
        aspect: height of a pixel over its width.
        left, name: what to write at the left edge and in the corner.
        truth: ``(rows, columns)``, the lesion as it was outlined; None where nobody did.
    """

    scan: NDArray
    anomaly_map: NDArray
    mask: NDArray
    aspect: float = 1.0
    left: str = ""
    name: str = ""
    truth: NDArray | None = None


def colour_range(calibration: Calibration) -> tuple[float, float]:
    """Ends of the colour scale, one for all cases; its middle is the value that one normal pixel in 1,000 exceeds."""
    # A fixed share, so that a picture's colours stay when a reader turns alpha.
    middle = calibration.pixel_threshold(0.001)
    reach = abs(middle) or 1.0
    return middle - abs(middle), middle + reach


@dataclass(frozen=True)
class _Turned:
    """The arrays of a volume with the axes running to the patient's left, back and head, and the voxel sizes in mm."""

    scan: NDArray
    anomaly_map: NDArray
    mask: NDArray
    truth: NDArray | None
    spacing: NDArray

    def plane(self, axis: int, index: int, name: str) -> Plane:
        """The slice ``index`` across ``axis`` the way radiologists look at it."""
        across, down = (other for other in range(3) if other != axis)

        def cut(volume: NDArray) -> NDArray:
            rows = volume[(slice(None),) * axis + (index,)].T  # a view: np.take copies, slowly where axes are turned
            return rows if axis == 2 else rows[::-1]  # rows run with the third axis, which points to the head

        aspect = float(self.spacing[down] / self.spacing[across])
        truth = None if self.truth is None else cut(self.truth)
        side = "A" if axis == 0 else "R"
        return Plane(cut(self.scan), cut(self.anomaly_map), cut(self.mask), aspect, side, name, truth)


def _turned(scan: NDArray, anomaly_map: NDArray, mask: NDArray, affine: NDArray, truth: NDArray | None) -> _Turned:
    affine = to_affine_nd(3, affine)
    to_lps = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(("L", "P", "S"))
    )
    spacing = np.empty(3)
    spacing[to_lps[:, 0].astype(int)] = affine_to_spacing(affine)
    volumes = [nib.orientations.apply_orientation(array, to_lps) for array in (scan.mean(axis=0), anomaly_map, mask)]
    outlined = None if truth is None else nib.orientations.apply_orientation(truth, to_lps)
    return _Turned(volumes[0], volumes[1], volumes[2], outlined, spacing)


def _picture_plane(
    scan: NDArray, anomaly_map: NDArray, mask: NDArray, affine: NDArray, truth: NDArray | None = None
) -> Plane:
    """A 2D scan ``(C, *spatial)`` upright; three channels are its colours, others are averaged."""
    turn = upright_turn(affine)
    shown = np.moveaxis(turn(scan), 0, -1) if scan.shape[0] == 3 else turn(scan.mean(axis=0))
    return Plane(shown, turn(anomaly_map), turn(mask), truth=None if truth is None else turn(truth))


def scan_planes(scan: NDArray, anomaly_map: NDArray, mask: NDArray, affine: NDArray) -> list[Plane]:
    """Slices to show of a case: a 2D scan, or three planes of a volume through the map's highest value.

    All are turned the way radiologists look at them: patient's right on the left, front or head up.

    Args:
        scan: ``(C, *spatial)``, 0..1.
        anomaly_map, mask: ``(*spatial)``.
        affine: voxel to world (RAS, mm).
    """
    if anomaly_map.ndim == 2:
        return [_picture_plane(scan, anomaly_map, mask, affine)]
    turned = _turned(scan, anomaly_map, mask, affine, None)
    peak = np.unravel_index(int(np.argmax(turned.anomaly_map)), turned.anomaly_map.shape)
    return [turned.plane(axis, int(peak[axis]), name) for name, axis in (("axial", 2), ("coronal", 1), ("sagittal", 0))]


def axial_planes(
    scan: NDArray, anomaly_map: NDArray, mask: NDArray, affine: NDArray, truth: NDArray | None = None, most: int = 32
) -> tuple[list[Plane], int]:
    """Axial slices of a volume from the feet to the head, and which of them holds the map's highest value.

    Where there are more than ``most``, slices are left out evenly, but neither the one with the highest value nor the
    one with most of the lesion. A 2D scan is one slice.

    Args:
        scan, anomaly_map, mask, affine: see `scan_planes`.
        truth: ``(*spatial)``, the lesion as it was outlined.
        most: how many slices at most.
    """
    if anomaly_map.ndim == 2:
        return [_picture_plane(scan, anomaly_map, mask, affine, truth)], 0
    turned = _turned(scan, anomaly_map, mask, affine, truth)
    count = turned.anomaly_map.shape[2]
    peak = int(np.argmax(turned.anomaly_map.max(axis=(0, 1))))
    kept = [peak]
    if turned.truth is not None and turned.truth.any():
        kept.append(int(np.argmax(np.count_nonzero(turned.truth, axis=(0, 1)))))
    chosen = np.arange(count)
    if count > most:
        even = np.linspace(0, count - 1, max(0, most - len(kept))).round().astype(int)
        chosen = np.unique([*even, *kept[:most]])
    planes = [turned.plane(2, int(index), f"axial {index + 1} of {count}") for index in chosen]
    return planes, int(np.flatnonzero(chosen == peak)[0])


def across_planes(
    scan: NDArray, anomaly_map: NDArray, mask: NDArray, affine: NDArray, truth: NDArray | None = None
) -> list[Plane]:
    """The coronal and the sagittal slice of a volume with most of the lesion, or with the map's highest value.

    A 2D scan has none.

    Args:
        scan, anomaly_map, mask, affine, truth: see `axial_planes`.
    """
    if anomaly_map.ndim == 2:
        return []
    turned = _turned(scan, anomaly_map, mask, affine, truth)
    planes = []
    for name, axis in (("coronal", 1), ("sagittal", 0)):
        rest = tuple(other for other in range(3) if other != axis)
        if turned.truth is not None and turned.truth.any():
            index = int(np.argmax(np.count_nonzero(turned.truth, axis=rest)))
        else:
            index = int(np.argmax(turned.anomaly_map.max(axis=rest)))
        planes.append(turned.plane(axis, index, f"{name} {index + 1} of {turned.anomaly_map.shape[axis]}"))
    return planes


def decision_words(case: Mapping[Any, Any]) -> str:
    """Decision and p-value in a few words, for a name that is shown beside a case's mask."""
    if case["is_anomalous"]:
        return f"anomaly, p {case['p_value']:.2g}"
    words = f"not flagged, p {case['p_value']:.2g}"
    return words if case["can_flag"] else f"{words}, {case['calibrated_on']} normal scans are too few to flag any"


def case_caption(case: Mapping[Any, Any]) -> str:
    """Case, score and p-value in one line."""
    figures = f"score {case['anomaly_score']:.4g}    p {case['p_value']:.3g}    alpha {case['alpha']:g}"
    too_few = "" if case["can_flag"] else f"    calibrated on {case['calibrated_on']}: nothing can be flagged"
    return f"{case['case_id']}    {figures}{too_few}"


@lru_cache
def colour_table() -> NDArray[np.uint8]:
    """``(256, 3)`` colours of the heat map, from the lower end of its scale to the upper."""
    return (matplotlib.colormaps[_COLOUR_MAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # The font that comes with matplotlib has the letters of most languages; Pillow's own has ASCII.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _panel_size(plane: Plane, side: int) -> tuple[int, int]:
    """Width and height in the picture: the longer one is ``side``."""
    width, height = plane.anomaly_map.shape[1], plane.anomaly_map.shape[0] * plane.aspect
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _resized(values: NDArray, size: tuple[int, int]) -> NDArray[np.float32]:
    """``(rows, columns[, 3])`` resampled to ``size`` (width, height)."""
    if values.ndim == 3:
        return np.stack([_resized(values[..., channel], size) for channel in range(3)], axis=-1)
    image = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _contour(mask: NDArray, size: tuple[int, int], line: int = 1) -> NDArray[np.bool_]:
    """``(rows, columns)``: the outline just outside the mask, so that it covers nothing of what it marks."""
    picture = Image.fromarray(np.ascontiguousarray(mask > 0, dtype=np.float32))
    shrinks = mask.shape[1] > size[0] or mask.shape[0] > size[1]
    # a lesion of one pixel must not vanish when the picture is smaller than the scan
    enlarged = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    inside = enlarged > (0.0 if shrinks else 0.5)
    if mask.any() and not inside.any():
        inside = enlarged >= enlarged.max()
    return np.asarray(binary_dilation(inside, iterations=line) & ~inside)


def plane_pictures(
    plane: Plane, limits: tuple[float, float], side: int = PANEL, line: int = 1
) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Scan, heat map, and the scan under the map with the contours of the mask and of the truth; RGB.

    Args:
        plane: the slice.
        limits: map values at the ends of the colour scale.
        side: pixels, the longer side of the pictures.
        line: pixels, width of the contours.
    """
    size = _panel_size(plane, side)
    scan = np.clip(_resized(plane.scan, size), 0, 1) * 255
    if scan.ndim == 2:
        scan = np.repeat(scan[..., None], 3, axis=-1)
    share = np.clip((_resized(plane.anomaly_map, size) - limits[0]) / (limits[1] - limits[0]), 0, 1)
    heat = colour_table()[(share * 255).astype(np.uint8)]
    opacity = (_OPACITY * share)[..., None]
    both = scan * (1 - opacity) + heat * opacity
    both[_contour(plane.mask, size, line)] = MASK_COLOUR
    if plane.truth is not None:
        both[_contour(plane.truth, size, line)] = TRUTH_COLOUR
    pictures = [Image.fromarray(array.astype(np.uint8)) for array in (scan, heat, both)]
    return pictures[0], pictures[1], pictures[2]


def _number(value: float) -> str:
    return f"{value:.3g}"


def _colour_bar(height: int, limits: tuple[float, float], threshold: float) -> Image.Image:
    """The scale with its ends and a tick at the mask's threshold, ``_BAR + _BAR_TEXT`` wide."""
    bar = Image.new("RGB", (_BAR + _BAR_TEXT, height), _BACKGROUND)
    column = colour_table()[np.linspace(255, 0, height).astype(int)]
    bar.paste(Image.fromarray(np.repeat(column[:, None], _BAR, axis=1)), (0, 0))
    draw, font = ImageDraw.Draw(bar), _font(11)
    draw.text((_BAR + 4, 0), _number(limits[1]), _DIM, font=font, anchor="lt")
    draw.text((_BAR + 4, height - 1), _number(limits[0]), _DIM, font=font, anchor="lb")
    share = (threshold - limits[0]) / (limits[1] - limits[0])
    if math.isfinite(share) and 0 <= share <= 1:
        row = round((1 - share) * (height - 1))
        draw.line([(0, row), (_BAR + 2, row)], MASK_COLOUR, width=2)
        # never on top of the ends' numbers
        draw.text((_BAR + 4, min(max(row, 20), height - 21)), _number(threshold), MASK_COLOUR, font=font, anchor="lm")
    return bar


def _caption(draw: ImageDraw.ImageDraw, text: str, flagged: bool, top: int, width: int) -> None:
    """One line: a badge with the decision, then the text, shortened at its start where it is too long."""
    badge, colour = ("ANOMALOUS", _FLAGGED) if flagged else ("not flagged", _UNFLAGGED)
    font, middle = _font(12), top + _LINE // 2
    left = _GAP
    badge_width = round(draw.textlength(badge, font=_font(12, bold=True))) + 16
    draw.rounded_rectangle([left, middle - 10, left + badge_width, middle + 10], 5, fill=colour)
    draw.text((left + badge_width // 2, middle), badge, (255, 255, 255), font=_font(12, bold=True), anchor="mm")
    left += badge_width + _GAP
    room = width - left - _GAP
    shown = text
    while draw.textlength(shown, font=font) > room and len(text) > 1:
        text = text[1:]
        shown = f"…{text}"
    draw.text((left, middle), shown, _TEXT, font=font, anchor="lm")


def overlay_picture(
    planes: Sequence[Plane], *, limits: tuple[float, float], threshold: float, caption: str, flagged: bool
) -> Image.Image:
    """Picture of a case: a row per plane with the scan, the heat map and its scale, and the scan under the map.

    Args:
        planes: what to show, see `scan_planes`.
        limits: map values at the ends of the colour scale; equal for all cases that are to be compared.
        threshold: map value at which the mask begins; a tick on the scale.
        caption: the line below.
        flagged: the decision, for the badge in front of the caption.
    """
    panels = [plane_pictures(plane, limits) for plane in planes]
    width = PANEL * 3 + _GAP * 5 + _BAR + _BAR_TEXT
    heights = [row[0].height for row in panels]
    picture = Image.new("RGB", (width, sum(heights) + _GAP * (len(heights) + 1) + _LINE), _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    columns = (_GAP, PANEL + 2 * _GAP, 2 * PANEL + 4 * _GAP + _BAR + _BAR_TEXT)
    top = _GAP
    for plane, row in zip(planes, panels, strict=True):
        inset = (PANEL - row[0].width) // 2
        for panel, left in zip(row, columns, strict=True):
            picture.paste(panel, (left + inset, top))
        bar_left = columns[1] + PANEL + _GAP
        picture.paste(_colour_bar(row[0].height, limits, threshold), (bar_left, top))
        corner = (columns[0] + 5, top + 5)
        draw.text(corner, plane.name, _TEXT, font=_font(11), anchor="lt", stroke_width=1, stroke_fill=(0, 0, 0))
        side = (columns[0] + 5, top + row[0].height // 2)
        draw.text(side, plane.left, _TEXT, font=_font(13), anchor="lm", stroke_width=1, stroke_fill=(0, 0, 0))
        top += row[0].height + _GAP
    _caption(draw, caption, flagged, top, width)
    return picture

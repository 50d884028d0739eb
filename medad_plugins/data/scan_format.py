"""How scans come to the network: one value that a training is set up with and its model remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medad_plugins.errors import InputError
from medad_plugins.tile_grid import TileGrid
from medad_plugins.volume_slices import ALL_AXES, REFERENCES

__all__ = ["ScanFormat"]


_ORIENTATIONS = ("upright", "stored")


@dataclass(frozen=True)
class ScanFormat:
    """The grid, channels and intensities in which every scan reaches the network.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        image_size: pixels or voxels along every axis, one number or one per axis: rows and columns of an image; of a
            volume right, anterior and superior, or the axes of `medad_plugins.data.upright` where it is cut to slices.
        in_channels: channels of the scan.
        slice_axis: 0, 1 or 2 (axial after orientation to RAS) shows a 2D network the slices of volumes along that axis,
            ``"all"`` those along all three, made square by zeros where the sides of volumes differ; None shows scans
            whole.
        crop: before resizing, cut to the bounding box of the foreground (``"foreground"``: above a tenth of the highest
            intensity) or to this part of every axis about the centre (e.g. 0.875); a restored map is 0 outside.
        intensity: ``"auto"``, ``"percentile"``, ``"standard"`` or a window, see
            `medad_plugins.transforms.ScaleScanIntensityd`.
        equalize: give the foreground an even histogram, see `medad_plugins.transforms.EqualizeScand`.
        orientation: which way up a 2D network sees images and slices: ``"upright"``, as a radiologist does, by the
            scan's affine (see `medad_plugins.data.upright_turn`), or ``"stored"``, columns first and as the file has
            them (slices by their RAS axes), as models were trained that do not say.
        paired: with ``slice_axis="all"``, what both sides of a volume show alike counts for nothing, see
            `medad_plugins.opposite_side.OppositeSide`; ``"references"`` takes nothing off and shows methods that are
            fitted in one pass the normal volumes mirrored too.
        roi_size: pixels along every axis of what the network looks at at once, one number or one per axis (of a slice,
            where volumes are cut): scans are cut into such tiles. None shows scans whole, or with ``spacing`` in tiles
            of ``image_size``.
        spacing: resample scans to so many mm along every axis, one number or one per axis, instead of to
            ``image_size``; a picture's pixels count as 1 mm. Scans then differ in size and are looked at in tiles.
        overlap: least share of a tile that neighbours have in common, see `medad_plugins.tile_grid.TileGrid`.

    Raises:
        InputError: a number of axes, a size, a spacing, an overlap or a slice axis that scans do not have.

    Example:
        >>> scan = ScanFormat(spatial_dims=3, image_size=[64, 96, 80], slice_axis=2)
        >>> scan.edges, scan.network_edges, scan.network_dims
        ([64, 96, 80], [64, 96], 2)
    """

    spatial_dims: int = 2
    image_size: int | Sequence[int] = 256
    in_channels: int = 1
    slice_axis: int | str | None = None
    crop: str | float | None = None
    intensity: str | Sequence[float] = "auto"
    equalize: bool = False
    orientation: str = "upright"
    paired: bool | str = False
    roi_size: int | Sequence[int] | None = None
    spacing: float | Sequence[float] | None = None
    overlap: float = 0.25

    def __post_init__(self) -> None:
        dims = self.spatial_dims
        if dims not in (2, 3):
            raise InputError("wrong number of spatial axes", where="spatial_dims", expected="2 or 3", found=dims)
        if len(self.whole_edges) != dims or min(self.whole_edges) < 1:
            expected = f"one positive number or {dims} of them"
            raise InputError("wrong image size", where="image_size", expected=expected, found=self.image_size)
        if self.slice_axis is not None and (dims != 3 or self.slice_axis not in (0, 1, 2, ALL_AXES)):
            raise InputError(
                "scans cannot be cut into slices so",
                where="slice_axis",
                expected="0, 1, 2 or all, with --spatial_dims 3",
                found=f"{self.slice_axis} with --spatial_dims {dims}",
            )

        if self.paired not in (False, True, REFERENCES):
            expected = f"true, false or {REFERENCES}"
            raise InputError("sides cannot be compared so", where="paired", expected=expected, found=self.paired)
        if self.paired and self.slice_axis != ALL_AXES:
            todo = "give --slice_axis all, or leave out --paired"
            raise InputError("sides are compared where volumes are cut along all axes", where="paired", todo=todo)
        if self.orientation not in _ORIENTATIONS:
            expected = " or ".join(_ORIENTATIONS)
            raise InputError("unknown orientation", where="orientation", expected=expected, found=self.orientation)
        self._check_tiles()

    def _check_tiles(self) -> None:
        dims = self.spatial_dims
        seen = dims if self.slice_axis is None else dims - 1
        tile = _for_each(self.roi_size, seen)
        if self.roi_size is not None and (len(tile) != seen or min(tile) < 1):
            expected = f"one positive number or {seen} of them"
            raise InputError("wrong size of tiles", where="roi_size", expected=expected, found=self.roi_size)
        steps = _for_each(self.spacing, dims)
        if self.spacing is not None and (len(steps) != dims or not min(steps) > 0):
            expected = f"one positive number of mm or {dims} of them"
            raise InputError("wrong spacing", where="spacing", expected=expected, found=self.spacing)
        if self.slice_axis == ALL_AXES and not (self.roi_size is None and self.spacing is None):
            todo = "leave out --roi_size and --spacing, or give --slice_axis 0, 1 or 2"
            raise InputError("slices along all axes are seen whole, not in tiles", where="slice_axis", todo=todo)
        if not 0 <= self.overlap <= 0.9:
            raise InputError("wrong overlap of tiles", where="overlap", expected="0 to 0.9", found=self.overlap)

    @property
    def whole_edges(self) -> list[int]:
        """Pixels along each axis to which a whole scan is brought, without a spacing."""
        return [int(edge) for edge in _for_each(self.image_size, self.spatial_dims)]

    @property
    def steps(self) -> list[float] | None:
        """Millimetres along each axis to which a scan is brought; None where it is brought to a size."""
        return None if self.spacing is None else [float(step) for step in _for_each(self.spacing, self.spatial_dims)]

    @property
    def tiles(self) -> TileGrid | None:
        """The tiles that the network looks at; None where it sees scans, or their slices, whole."""
        if self.roi_size is None and self.spacing is None:
            return None
        return TileGrid(self.network_edges, self.overlap)

    @property
    def edges(self) -> list[int]:
        """Pixels along each axis of what is looked at at once: of a tile, or of a whole scan."""
        edges = self.whole_edges
        if self.roi_size is not None:
            seen = [axis for axis in range(self.spatial_dims) if axis != self.slice_axis]
            for axis, edge in zip(seen, _for_each(self.roi_size, len(seen)), strict=True):
                edges[axis] = int(edge)
        return edges

    @property
    def network_edges(self) -> list[int]:
        """Pixels along each axis of what the network sees: a scan, a slice, or a tile of these."""
        if self.slice_axis == ALL_AXES:
            return [max(self.edges)] * 2
        return [edge for axis, edge in enumerate(self.edges) if axis != self.slice_axis]

    @property
    def network_dims(self) -> int:
        """Spatial axes of what the network sees."""
        return len(self.network_edges)

    def upright(self) -> ScanFormat:
        """The same for a new training: upright, with the sides of images and slices in that order."""
        size = self.image_size
        if self.orientation == "stored" and self.network_dims == 2 and not isinstance(size, int):
            edges = self.whole_edges
            first, second = (axis for axis in range(self.spatial_dims) if axis != self.slice_axis)
            edges[first], edges[second] = edges[second], edges[first]
            size = edges
        return replace(self, orientation="upright", image_size=size)


def _for_each(value: Any, count: int) -> list[Any]:
    """One number for every axis, or the numbers given."""
    return [value] * count if isinstance(value, (int, float)) else list(value or ())

"""How scans come to the network: one value that a training is set up with and its model remembers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medad_plugins.data.volume_slices import ALL_AXES
from medad_plugins.errors import InputError

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

    Raises:
        InputError: a number of axes, a size or a slice axis that scans do not have.

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

    def __post_init__(self) -> None:
        dims = self.spatial_dims
        if dims not in (2, 3):
            raise InputError("wrong number of spatial axes", where="spatial_dims", expected="2 or 3", found=dims)
        if len(self.edges) != dims or min(self.edges) < 1:
            expected = f"one positive number or {dims} of them"
            raise InputError("wrong image size", where="image_size", expected=expected, found=self.image_size)
        if self.slice_axis is not None and (dims != 3 or self.slice_axis not in (0, 1, 2, ALL_AXES)):
            raise InputError(
                "scans cannot be cut into slices so",
                where="slice_axis",
                expected="0, 1, 2 or all, with --spatial_dims 3",
                found=f"{self.slice_axis} with --spatial_dims {dims}",
            )

        if self.orientation not in _ORIENTATIONS:
            expected = " or ".join(_ORIENTATIONS)
            raise InputError("unknown orientation", where="orientation", expected=expected, found=self.orientation)

    @property
    def edges(self) -> list[int]:
        """Pixels along each axis of a scan."""
        size = self.image_size
        return [size] * self.spatial_dims if isinstance(size, int) else [int(edge) for edge in size]

    @property
    def network_edges(self) -> list[int]:
        """Pixels along each axis of what the network sees: a scan, or a slice of it."""
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
            edges = self.edges
            first, second = (axis for axis in range(self.spatial_dims) if axis != self.slice_axis)
            edges[first], edges[second] = edges[second], edges[first]
            size = edges
        return replace(self, orientation="upright", image_size=size)

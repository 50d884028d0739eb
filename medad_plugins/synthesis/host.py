"""What the parts of the synthesizer pass to each other: the scan to be changed, and where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Host", "Region"]


@dataclass(frozen=True)
class Host:
    """The normal scan that gets an anomaly; never written to.

    Attributes:
        image: ``(C, *spatial)``, float32.
        spacing: millimetres a voxel along each axis; ones where nothing is known.
        body: ``(*spatial)``, true where an anomaly may lie; None everywhere.

    Example:
        >>> host = Host(np.zeros((1, 64, 48), dtype=np.float32), spacing=(1.0, 1.0))
        >>> host.shape, host.spatial_dims
        ((64, 48), 2)
    """

    image: NDArray[np.float32]
    spacing: tuple[float, ...]
    body: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each spatial axis."""
        return self.image.shape[1:]

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return len(self.shape)


@dataclass(frozen=True)
class Region:
    """A box of the scan and how much each of its voxels takes part.

    Attributes:
        start: the box's first voxel along each axis.
        alpha: ``(*box)``, 0..1; a hard region has zeros and ones alone.
    """

    start: tuple[int, ...]
    alpha: NDArray[np.float32]

    @property
    def box(self) -> tuple[slice, ...]:
        """The box as indices of the spatial axes."""
        return tuple(slice(first, first + size) for first, size in zip(self.start, self.alpha.shape))

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Voxels that take part, ``(*box)``."""
        inside: NDArray[np.bool_] = self.alpha > 0
        return inside

    def clipped(self, shape: tuple[int, ...]) -> Region | None:
        """The part that lies in an image of this shape, without empty margins; None if nothing does."""
        cut = tuple(
            slice(max(0, -first), max(0, min(size, edge - first)))
            for first, size, edge in zip(self.start, self.alpha.shape, shape)
        )
        alpha = self.alpha[cut]
        if not (alpha > 0).any():
            return None
        axes = range(alpha.ndim)
        filled = [np.flatnonzero((alpha > 0).any(tuple(a for a in axes if a != axis))) for axis in axes]
        tight = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in filled)
        start = tuple(
            first + part.start + place.start for first, part, place in zip(self.start, cut, tight, strict=True)
        )
        return Region(start, np.ascontiguousarray(alpha[tight], dtype=np.float32))

    def grown(self, margin: int, shape: tuple[int, ...]) -> Region:
        """The same region in a box that is larger by a margin, as far as the image goes."""
        before = [min(margin, first) for first in self.start]
        after = [min(margin, edge - first - size) for first, size, edge in zip(self.start, self.alpha.shape, shape)]
        start = tuple(first - gap for first, gap in zip(self.start, before))
        return Region(start, np.pad(self.alpha, list(zip(before, after))))

"""The ways in which a copy of a scan may be mirrored or turned."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Orientation", "orientations"]


class Orientation(NamedTuple):
    """Flips along axes after, maybe, an exchange of the two axes of a picture.

    Attributes:
        name: to show, e.g. ``"mirrored left-right"``.
        flips: spatial axes.
        transposes: whether the two axes of a picture change places first.
    """

    name: str
    flips: tuple[int, ...] = ()
    transposes: bool = False

    def __call__(self, grids: NDArray) -> NDArray:
        """Turn grids ``(n, *spatial)``."""
        turned = grids.swapaxes(1, 2) if self.transposes else grids
        return np.flip(turned, tuple(axis + 1 for axis in self.flips))

    def is_undone_by(self, other: Orientation) -> bool:
        """Whether the other one brings back what this one turned; only quarter turns do not undo themselves."""
        flips = tuple(1 - axis for axis in reversed(self.flips)) if self.transposes else self.flips
        return (other.flips, other.transposes) == (flips, self.transposes)


_PICTURE_FLIPS = {
    (): "as it is",
    (0,): "mirrored left-right",
    (1,): "mirrored top-bottom",
    (0, 1): "turned by 180 degrees",
}
_PICTURE_TURNS = {
    (): "mirrored at the diagonal",
    (0,): "turned by 90 degrees clockwise",
    (1,): "turned by 90 degrees counterclockwise",
    (0, 1): "mirrored at the other diagonal",
}
_AXES = ("left-right", "front-back", "top-bottom")


def orientations(spatial_dims: int) -> Sequence[Orientation]:
    """Eight orientations, the scan as it is first: of a picture flips and quarter turns, of a volume flips.

    Pictures have the axes (columns, rows), volumes (right, anterior, superior).
    """
    if spatial_dims == 2:
        return [Orientation(name, flips) for flips, name in _PICTURE_FLIPS.items()] + [
            Orientation(name, flips, True) for flips, name in _PICTURE_TURNS.items()
        ]
    flips = [axes for count in range(4) for axes in combinations(range(3), count)]
    return [
        Orientation("mirrored " + " and ".join(_AXES[a] for a in axes) if axes else "as it is", axes) for axes in flips
    ]

"""Which way up a scan is shown, by its affine: the one rule for everything that looks at scans in two dimensions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["UPRIGHT_SLICES", "UprightTurn", "upright_turn"]

# Axes of volumes that are shown slice by slice along an axis: rows and columns of a slice as radiologists see it, and
# the axis along which they are cut, in its place among right, anterior and superior.
UPRIGHT_SLICES = {0: "RIP", 1: "IAL", 2: "PLS"}
_DIGITS = 4  # of direction cosines, so that a turn by 45 degrees is one case in every format


class UprightTurn(NamedTuple):
    """How the two axes of a scan become the rows and columns of the picture that a radiologist sees.

    Attributes:
        transposes: whether the axes change places first.
        flips: which axes are then reversed, of 0 (rows) and 1 (columns).
    """

    transposes: bool
    flips: tuple[int, ...]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """A view of ``(..., *stored axes)`` as ``(..., rows, columns)``."""
        turned = values.swapaxes(-2, -1) if self.transposes else values
        return np.flip(turned, tuple(axis - 2 for axis in self.flips))

    def matrix(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        """``(4, 4)``, index (row, column, 0) to stored index; ``shape`` is that of the stored axes."""
        matrix = np.eye(4)
        for axis in self.flips:
            stored = 1 - axis if self.transposes else axis
            matrix[axis, axis], matrix[axis, 3] = -1, shape[stored] - 1
        return matrix[[1, 0, 2, 3]] if self.transposes else matrix


def upright_turn(affine: NDArray[np.float64]) -> UprightTurn:
    """The turn of a 2D scan to what a radiologist sees, by the world axes nearest to its own.

    An axial slice has rows towards posterior and columns towards the patient's left, a coronal one rows to inferior and
    columns to left, a sagittal one rows to inferior and columns to posterior.

    Args:
        affine: ``(3, 3)`` or ``(4, 4)``, voxel index to mm in RAS; only its first two axes count. Where they span no
            plane, as of a scan that lies nowhere, they are taken for the columns and rows of a picture.

    Example:
        >>> from medad_plugins.data.scan import PICTURE_AFFINE
        >>> upright_turn(PICTURE_AFFINE)
        UprightTurn(transposes=True, flips=())
    """
    size = len(affine) - 1
    axes = np.zeros((2, 3))
    axes[:, :size] = np.asarray(affine, dtype=np.float64)[:size, :2].T
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    normal = np.cross(*(axes / np.where(lengths > 0, lengths, 1)))
    if not np.linalg.norm(normal) > 10.0**-_DIGITS:
        return UprightTurn(True, ())
    axes = (axes / lengths).round(_DIGITS)
    across = np.abs(normal / np.linalg.norm(normal)).round(_DIGITS)
    along = [axis for axis in range(3) if axis != 2 - int(np.argmax(across[::-1]))]
    columns, rows = along
    swapped = abs(axes[1, rows]) + abs(axes[0, columns])
    transposes = bool(swapped >= abs(axes[0, rows]) + abs(axes[1, columns]))
    down, right = (axes[1], axes[0]) if transposes else (axes[0], axes[1])
    # all world axes point away from where rows and columns go: up, forward and to the right
    return UprightTurn(transposes, tuple(i for i, step in enumerate((down[rows], right[columns])) if step > 0))

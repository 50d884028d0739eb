"""A scan as it is, turned and mirrored."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ScanViews"]


class ScanViews:
    """The views in which a normal scan is shown to what is fitted to its tokens.

    Args:
        spatial_dims: 2 or 3.
        mirrored: axis along which every view is shown mirrored too, None for none: of an upright 2D scan 1 is left and
            right, of a volume in RAS 0.
        rotations: how many turns, evenly over the circle, in the plane of the first two axes; 1 for none.

    Shape:
        ``(B, C, *spatial)`` to a list of such, the scan as it is first.
    """

    def __init__(self, spatial_dims: int = 2, mirrored: int | None = None, rotations: int = 1) -> None:
        if rotations < 1 or mirrored not in (None, *range(spatial_dims)):
            raise ValueError(
                f"rotations must be positive and mirrored one of the {spatial_dims} axes, "
                f"got {rotations} and {mirrored!r}."
            )
        self.mirrored, self.rotations = mirrored, rotations

    def __call__(self, image: Tensor) -> list[Tensor]:
        views = [image] + [turned(image, 2 * math.pi * k / self.rotations) for k in range(1, self.rotations)]
        if self.mirrored is None:
            return views
        return views + [view.flip(2 + self.mirrored) for view in views]


def turned(image: Tensor, angle: float) -> Tensor:
    """Scans turned about their centre in the plane of their first two axes; the border's values reach outwards."""
    dims = image.dim() - 2
    # grids count axes from the last
    matrix = torch.eye(dims, dims + 1, dtype=image.dtype, device=image.device)
    first, second = dims - 1, dims - 2
    size = image.shape[2:]
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second] = -math.sin(angle) * size[1] / size[0]
    matrix[second, first] = math.sin(angle) * size[0] / size[1]
    grid = functional.affine_grid(matrix.expand(len(image), -1, -1), list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, padding_mode="border", align_corners=False)

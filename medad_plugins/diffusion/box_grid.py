"""A scan cut into a grid of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from medad_plugins.errors import InputError

__all__ = ["box_grid"]


def box_grid(spatial: Sequence[int], boxes: int) -> Tensor:
    """Which pixels lie in each box of a grid: every pixel in one of them, sides equal to a pixel.

    Args:
        spatial: edges of the scan in pixels.
        boxes: along every axis.

    Returns:
        ``(boxes ** D, *spatial)``, booleans.

    Raises:
        InputError: there are more boxes than pixels.
    """
    if not 1 <= boxes <= min(spatial):
        expected = f"1 to {min(spatial)}, the scan's shortest edge"
        raise InputError("the scan cannot be cut into so many boxes", where="boxes", expected=expected, found=boxes)
    grid = torch.zeros(boxes ** len(spatial), *spatial, dtype=torch.bool)
    for box, places in zip(grid, product(range(boxes), repeat=len(spatial))):
        box[tuple(slice(edge * i // boxes, edge * (i + 1) // boxes) for edge, i in zip(spatial, places))] = True
    return grid

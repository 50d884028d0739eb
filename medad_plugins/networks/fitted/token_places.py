"""The places of a token grid: where they are, and which lie about each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["place_coordinates", "places_around", "require_window"]


def require_window(window: int) -> None:
    """Refuse an edge of a window of places that has no middle."""
    if window < 0 or (window > 0 and window % 2 == 0):
        raise ValueError(f"window must be odd, or 0 for anywhere, got {window}.")


def place_coordinates(grid: Sequence[int]) -> Tensor:
    """Coordinates ``(P, dims)`` of the places of a grid in row-major order, -1 to 1 from border to border."""
    axes = [(2 * torch.arange(edge) + 1) / edge - 1 for edge in grid]
    return torch.cartesian_prod(*axes).reshape(-1, len(grid))


def places_around(grid: Sequence[int], window: int) -> Tensor:
    """Row-major places ``(P, window ** dims)`` in the window about each place of a grid; -1 beyond its border."""
    reach = range(-(window // 2), window // 2 + 1)
    edges = torch.tensor(list(grid))
    coordinates = torch.cartesian_prod(*[torch.arange(edge) for edge in grid]).reshape(-1, len(grid))
    columns = []
    for offset in itertools.product(reach, repeat=len(grid)):
        moved = coordinates + torch.tensor(offset)
        flat = torch.zeros(len(moved), dtype=torch.long)
        for axis, edge in enumerate(grid):
            flat = flat * edge + moved[:, axis]
        inside = ((moved >= 0) & (moved < edges)).all(1)
        columns.append(torch.where(inside, flat, -1))
    return torch.stack(columns, 1)

"""What tells tokens of a grid where they are: positions and queries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GridPositions", "GridQueries", "neighbours_hidden"]

KINDS = ("learned", "sine")


class AxisTable(nn.Module):
    """One learned vector for every place along an axis; of an axis of another length they are interpolated.

    Shape:
        an edge to ``(edge, width)``.
    """

    def __init__(self, edge: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(edge, width))

    def forward(self, edge: int) -> Tensor:
        if edge == self.table.shape[0]:
            return self.table
        columns = self.table.t().unsqueeze(0)
        return functional.interpolate(columns, [edge], mode="linear", align_corners=False)[0].t()


class AxisWaves(nn.Module):
    """Sines and cosines along an axis, whose whole length is one turn of the fastest.

    Shape:
        an edge to ``(edge, width)``.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        steps = 10000.0 ** (2 * (torch.arange(width) // 2) / width)
        self.rates: Tensor = nn.Buffer(2 * math.pi / steps, persistent=False)
        self.shifts: Tensor = nn.Buffer(torch.arange(width) % 2 * (math.pi / 2), persistent=False)

    def forward(self, edge: int) -> Tensor:
        places = (torch.arange(edge, device=self.rates.device) + 1).to(self.rates.dtype) / edge
        return torch.sin(places.unsqueeze(1) * self.rates + self.shifts)


class GridPositions(nn.Module):
    """A vector for every place of a grid: a part of it for each axis, one after the other.

    Args:
        grid: places along each axis of the grid that is trained on; others are interpolated.
        width: of the vectors.
        kind: ``"learned"``, which begin uniformly in 0..1, or ``"sine"``.

    Shape:
        a grid to ``(P, width)``, row-major.

    Example:
        >>> GridPositions([4, 5], 16, "sine")([4, 5]).shape
        torch.Size([20, 16])
    """

    def __init__(self, grid: Sequence[int], width: int, kind: str = "learned") -> None:
        super().__init__()
        dims = len(grid)
        if kind not in KINDS or width < dims:
            raise ValueError(
                f"positions must be one of {KINDS} and at least {dims} wide, one value for each axis, "
                f"got {kind!r} and {width}."
            )
        widths = [width // dims + (axis < width % dims) for axis in range(dims)]
        self.axes = nn.ModuleList(
            AxisTable(edge, own) if kind == "learned" else AxisWaves(own) for edge, own in zip(grid, widths)
        )

    def forward(self, grid: list[int]) -> Tensor:
        parts: list[Tensor] = []
        for axis, along in enumerate(self.axes):
            values = along(grid[axis])
            shape = [1] * len(grid) + [-1]
            shape[axis] = grid[axis]
            parts.append(values.reshape(shape).expand(grid + [-1]))
        return torch.cat(parts, -1).flatten(0, -2)


class GridQueries(nn.Module):
    """A learned query for every place of a grid; of another grid they are interpolated.

    Args:
        grid: places along each axis of the grid that is trained on.
        width: of the queries.

    Shape:
        a grid to ``(P, width)``, row-major.
    """

    def __init__(self, grid: Sequence[int], width: int) -> None:
        super().__init__()
        self.grid = [int(edge) for edge in grid]
        self.mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(self.grid)]
        self.queries = nn.Parameter(torch.randn(math.prod(self.grid), width))

    def forward(self, grid: list[int]) -> Tensor:
        if grid == self.grid:
            return self.queries
        learned = self.queries.t().unflatten(1, self.grid).unsqueeze(0)
        return functional.interpolate(learned, grid, mode=self.mode, align_corners=False)[0].flatten(1).t()


def neighbours_hidden(grid: list[int], window: int, device: torch.device) -> Tensor:
    """Which places of a grid are near which: ``(P, P)``, bool, row-major.

    Args:
        grid: places along each axis.
        window: edge of the window about each place, odd; 0 for none. It is made smaller where it would hold the whole
            grid, for a token from which all are hidden has no answer.
        device: where the answer is wanted.

    Example:
        >>> neighbours_hidden([1, 5], 3, torch.device("cpu")).sum(1)
        tensor([2, 3, 3, 3, 2])
    """
    # the longest axis must reach beyond the window about every one of its places
    reach = min((window - 1) // 2 if window > 0 else -1, (max(grid) - 2) // 2)
    places = 1
    for edge in grid:
        places *= edge
    near = torch.ones(places, places, dtype=torch.bool, device=device)
    for axis, edge in enumerate(grid):
        shape = [1] * len(grid)
        shape[axis] = edge
        along = torch.arange(edge, device=device).reshape(shape).expand(grid).reshape(-1)
        near = torch.logical_and(near, (along.unsqueeze(1) - along.unsqueeze(0)).abs() <= reach)
    return near

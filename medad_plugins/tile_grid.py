"""Scans larger than what a network looks at: which tiles cover them, and one map from the maps of the tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["TileGrid"]

# tiles begin at multiples of it where the tile's edge allows: features of a strided network then lie where those of the
# whole scan lie
_UNIT = 16
# share of an overlap, about its middle, over which one tile's map passes into its neighbour's
_BLENDED = 0.25


class TileGrid:
    """Overlapping tiles that cover scans of any size, evenly, and how their maps are joined.

    Where two tiles overlap, the outer three eighths of either count for nothing: there a network sees the tile's border
    instead of the scan. In the quarter between, one map passes into the other. At the scan's own border a tile counts
    in full. So the map of a convolutional network is that of the whole scan where its receptive field reaches no
    further than three eighths of the overlap. A scan that is smaller than a tile, or that whole steps do not cover, is
    padded with zeros on both sides.

    Args:
        edges: of a tile, in pixels.
        overlap: least share of an edge that neighbours have in common, from 0 to below 1.

    Example:
        >>> grid = TileGrid([32, 32], overlap=0.5)
        >>> grid.starts([64, 20])
        [[0, 16, 32], [-6]]
        >>> image = torch.rand(1, 1, 64, 20)
        >>> torch.allclose(grid.blend(image, lambda tiles, numbers: tiles), image)
        True
    """

    def __init__(self, edges: Sequence[int], overlap: float = 0.25) -> None:
        if not edges or min(edges) < 1 or not 0 <= overlap < 1:
            raise ValueError(f"edges must be positive and overlap in [0, 1), got {list(edges)} and {overlap}.")
        self.edges, self.overlap = list(edges), overlap

    def starts(self, shape: Sequence[int]) -> list[list[int]]:
        """Where tiles begin along each axis of a scan; below 0, or reaching over the end, where it is padded."""
        return [_starts(length, edge, self.overlap) for length, edge in zip(shape, self.edges, strict=True)]

    def places(self, shape: Sequence[int]) -> list[tuple[int, ...]]:
        """The first pixel of every tile, in row-major order."""
        return list(itertools.product(*self.starts(shape)))

    def count(self, shape: Sequence[int]) -> int:
        """How many tiles cover a scan of this shape."""
        return math.prod(len(starts) for starts in self.starts(shape))

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether a scan of this shape is exactly one tile."""
        return list(shape) == self.edges

    def cut(self, image: Tensor, place: Sequence[int]) -> Tensor:
        """The tile ``(B, C, *edges)`` of scans ``(B, C, *spatial)`` that begins at a place."""
        inside, pads = [], list[int]()
        for length, start, edge in zip(image.shape[2:], place, self.edges, strict=True):
            inside.append(slice(max(start, 0), min(start + edge, length)))
            pads = [max(-start, 0), max(start + edge - length, 0), *pads]
        part = image[(slice(None), slice(None), *inside)]
        return functional.pad(part, pads) if any(pads) else part

    def tiles(self, image: Tensor) -> Iterator[Tensor]:
        """Every tile ``(B, C, *edges)`` of scans ``(B, C, *spatial)``, in the order of `places`."""
        return (self.cut(image, place) for place in self.places(image.shape[2:]))

    def blend(self, image: Tensor, function: Callable[[Tensor, list[int]], Tensor | None], at_once: int = 8) -> Tensor:
        """One map of what a function makes of the tiles.

        Args:
            image: scans ``(B, C, *spatial)``.
            function: of tiles ``(n, C, *edges)`` and their numbers; gives ``(n, K, *edges)``, or None of every tile,
                e.g. what only collects them.
            at_once: most tiles in a call; those of a batch at one place stay together where they fit.

        Returns:
            ``(B, K, *spatial)``; zeros with one channel where the function gives nothing.
        """
        shape, batch = image.shape[2:], len(image)
        places, weights = self.places(shape), self._weights(shape)
        indices = list(itertools.product(*(range(len(axis)) for axis in weights)))
        result = None
        together = max(1, at_once // batch)
        for first in range(0, len(places), together):
            some = range(first, min(first + together, len(places)))
            cut = torch.cat([self.cut(image, places[number]) for number in some])
            numbers = [number for number in some for _ in range(batch)]
            found = [
                function(cut[start : start + at_once], numbers[start : start + at_once])
                for start in range(0, len(cut), at_once)
            ]
            maps = [one for one in found if one is not None]
            if not maps:
                continue
            joined = torch.cat(maps)
            if result is None:
                result = joined.new_zeros(batch, joined.shape[1], *shape)
            for number, values in zip(some, joined.split(batch), strict=True):
                self._add(result, values, places[number], [w[i] for w, i in zip(weights, indices[number], strict=True)])
        return image.new_zeros(batch, 1, *shape) if result is None else result

    def _add(self, result: Tensor, values: Tensor, place: Sequence[int], weights: Sequence[Tensor]) -> None:
        """Add a tile's map, weighted along each axis, where it lies in the scan."""
        there, here = [], []
        for axis, (start, edge, weight) in enumerate(zip(place, self.edges, weights, strict=True)):
            first, last = max(start, 0), min(start + edge, result.shape[2 + axis])
            there.append(slice(first, last))
            here.append(slice(first - start, last - start))
            values = values * weight.to(values).reshape([-1, *[1] * (len(self.edges) - axis - 1)])
        result[(slice(None), slice(None), *there)] += values[(slice(None), slice(None), *here)]

    def _weights(self, shape: Sequence[int]) -> list[list[Tensor]]:
        """Along each axis the weights ``(edge,)`` of each tile, which add up to one at every pixel."""
        return [_weights(starts, edge) for starts, edge in zip(self.starts(shape), self.edges, strict=True)]


def _starts(length: int, edge: int, overlap: float) -> list[int]:
    if length <= edge:
        return [-((edge - length) // 2)]
    # the largest power of two in the edge; tiles of it at most a quarter of the edge apart keep overlaps small
    unit = max(1, min(edge & -edge, _UNIT))
    while unit > 1 and unit > edge // 4:
        unit //= 2
    step = max(1, int(edge * (1 - overlap) + 1e-6) // unit) * unit
    span = -(-(length - edge) // unit) * unit
    count = -(-span // step) + 1
    before = (span - (length - edge)) // 2
    return [number * span // (count - 1) // unit * unit - before for number in range(count)]


def _weights(starts: Sequence[int], edge: int) -> list[Tensor]:
    found = []
    for number, start in enumerate(starts):
        weight = torch.ones(edge)
        if number > 0:
            rising = _rising(starts[number - 1] + edge - start)
            weight[: len(rising)] *= rising
        if number + 1 < len(starts):
            falling = 1 - _rising(start + edge - starts[number + 1])
            weight[edge - len(falling) :] *= falling
        found.append(weight)
    total = torch.zeros(starts[-1] - starts[0] + edge)
    for start, weight in zip(starts, found, strict=True):
        total[start - starts[0] :][:edge] += weight
    return [weight / total[start - starts[0] :][:edge] for start, weight in zip(starts, found, strict=True)]


def _rising(overlap: int) -> Tensor:
    """From 0 to 1 over an overlap of so many pixels, in the middle of it."""
    along = (torch.arange(max(overlap, 0)) + 0.5) / max(overlap, 1)
    return ((along - 0.5) / _BLENDED + 0.5).clamp(0, 1)

"""Superpixels: a scan as flat pieces of neighbouring places that are alike."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

__all__ = ["Superpixels"]


class Superpixels(nn.Module):
    """Every pixel becomes the mean of its cluster of intensity and place.

    Clusters begin as cells of a grid; each place then joins the nearest of the means of its own cell and of those
    around it, some times over, as SLIC does. It is deterministic, works on the network's device and needs no package of
    image processing. Other than in SLIC, a cluster may come to lie in several pieces, and a place looks at the cells
    around its own and not around the moved means.

    Args:
        size: edge of a cell in pixels.
        compactness: intensity that counts as much as a distance of a cell's edge; high values leave cells as they are.
        rounds: how often clusters are drawn anew.

    Shape:
        ``(B, C, *spatial)`` with two or three spatial axes, to the same, float32, without gradient.

    Reference:
        Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI 34, 2012.

    Example:
        >>> image = torch.zeros(1, 1, 8, 8)
        >>> image[..., 3:] = 1
        >>> torch.equal(Superpixels(4)(image), image)
        True
    """

    def __init__(self, size: int = 8, compactness: float = 0.1, rounds: int = 5) -> None:
        super().__init__()
        if size < 1 or compactness <= 0 or rounds < 0:
            given = f"size {size}, compactness {compactness}, rounds {rounds}"
            raise ValueError(f"size and compactness must be positive and rounds not negative, got {given}.")
        self.size, self.compactness, self.rounds = size, float(compactness), rounds

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        edges = list(image.shape[2:])
        values = image.float().flatten(2).movedim(1, 2)  # (B, P, C)
        grid = [max(1, round(edge / self.size)) for edge in edges]
        places, cells = self._places(edges, grid, image.device)
        features = torch.cat([values, places.expand(len(values), -1, -1)], 2)
        around = _around(cells, grid)
        chosen = around[0].expand(len(values), -1)
        means = _means(features, chosen, features.new_zeros(len(values), math.prod(grid), features.shape[2]))
        for _ in range(self.rounds):
            chosen = _nearest(features, means, around)
            means = _means(features, chosen, means)
        flat = _taken(means, chosen)[:, :, : image.shape[1]]
        return flat.movedim(2, 1).unflatten(2, edges)

    def _places(self, edges: list[int], grid: list[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Of every pixel its place, as far as it counts, and its cell, ``(P, axes)`` each."""
        axes = [torch.arange(edge, device=device) for edge in edges]
        index = torch.stack(torch.meshgrid(axes, indexing="ij"), -1).flatten(0, -2)
        counts, lengths = (torch.tensor(each, device=device) for each in (grid, edges))
        return index * (self.compactness / self.size), index * counts // lengths


def _around(cells: Tensor, grid: list[int]) -> list[Tensor]:
    """Numbers ``(P,)`` of every pixel's own cell and of those around it, its own first."""
    last = torch.tensor(grid, device=cells.device) - 1
    steps = sorted(itertools.product((-1, 0, 1), repeat=len(grid)), key=lambda step: sum(map(abs, step)))
    moved = [(cells + torch.tensor(step, device=cells.device)).clamp_min(0) for step in steps]
    return [_number(torch.minimum(each, last), grid) for each in moved]


def _nearest(features: Tensor, means: Tensor, around: list[Tensor]) -> Tensor:
    """Number ``(B, P)`` of the nearest of the cells around each pixel; where two are as near, the earlier."""
    nearest = torch.full(features.shape[:2], torch.inf, device=features.device)
    chosen = torch.zeros(features.shape[:2], dtype=torch.long, device=features.device)
    for each in around:
        number = each.expand(len(features), -1)
        distance = (features - _taken(means, number)).square().sum(2)
        chosen = torch.where(distance < nearest, number, chosen)
        nearest = torch.minimum(distance, nearest)
    return chosen


def _number(cells: Tensor, grid: list[int]) -> Tensor:
    """One number ``(P,)`` for cells ``(P, axes)``."""
    number = cells[:, 0]
    for axis in range(1, len(grid)):
        number = number * grid[axis] + cells[:, axis]
    return number


def _taken(means: Tensor, chosen: Tensor) -> Tensor:
    """Of means ``(B, K, F)`` those that pixels ``(B, P)`` chose, ``(B, P, F)``."""
    return means.gather(1, chosen.unsqueeze(2).expand(-1, -1, means.shape[2]))


def _means(features: Tensor, chosen: Tensor, before: Tensor) -> Tensor:
    """Means ``(B, K, F)`` of the pixels that chose each; those that none chose stay as they were before."""
    index = chosen.unsqueeze(2).expand(-1, -1, features.shape[2])
    sums = torch.zeros_like(before).scatter_add(1, index, features)
    counts = torch.zeros_like(before[:, :, 0]).scatter_add(1, chosen, torch.ones_like(features[:, :, 0])).unsqueeze(2)
    return torch.where(counts > 0, sums / counts.clamp_min(1), before)

"""Superpixels against plain loops, in 2D and 3D."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medad_plugins.networks.blocks.superpixels import Superpixels


def _by_loops(image: NDArray[np.float64], size: int, compactness: float, rounds: int) -> NDArray[np.float64]:
    """Of one scan ``(C, *spatial)``: each place to the nearest mean of the cells around its own, again and again."""
    edges = image.shape[1:]
    grid = [max(1, round(edge / size)) for edge in edges]
    cells = {place: tuple(i * n // e for i, n, e in zip(place, grid, edges)) for place in np.ndindex(*edges)}
    features = {p: np.concatenate([image[(slice(None), *p)], np.array(p) * compactness / size]) for p in cells}
    chosen, means = dict(cells), {}
    for turn in range(rounds + 1):
        for cell in np.ndindex(*grid):
            members = [features[place] for place in cells if chosen[place] == cell]
            if members:
                means[cell] = np.mean(members, 0)
        if turn == rounds:
            break
        for place, cell in cells.items():
            around = [tuple(np.add(cell, step)) for step in itertools.product((-1, 0, 1), repeat=len(grid))]
            known = [each for each in around if each in means]
            chosen[place] = min(known, key=lambda each: float(np.square(features[place] - means[each]).sum()))
    flat = np.zeros_like(image)
    for place in cells:
        flat[(slice(None), *place)] = means[chosen[place]][: len(image)]
    return flat


@pytest.mark.parametrize(("size", "channels"), [((11, 14), 1), ((9, 8), 2), ((6, 9, 7), 1)])
def test_each_place_joins_the_nearest_mean(size: tuple[int, ...], channels: int) -> None:
    scans = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
    found = Superpixels(4, 0.2, 3)(scans)
    assert found.shape == scans.shape and not found.requires_grad
    for own, scan in zip(found, scans):
        np.testing.assert_allclose(own.numpy(), _by_loops(scan.double().numpy(), 4, 0.2, 3), atol=1e-5)


def test_pieces_follow_edges_and_are_few() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disk = ((rows - 15).square() + (columns - 17).square() < 81).float()
    noisy = (disk + 0.03 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[None, None]
    flat = Superpixels(8)(noisy)
    assert len(flat.unique()) <= 16
    assert float((flat[0, 0] - disk).abs().mean()) < 0.03, "an edge within a cell is found"
    cells = Superpixels(8, compactness=100.0)(noisy)
    expected = torch.nn.functional.avg_pool2d(noisy, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    torch.testing.assert_close(cells, expected)


def test_what_there_is_not() -> None:
    for keys in ({"size": 0}, {"compactness": 0.0}, {"rounds": -1}):
        with pytest.raises(ValueError, match="size and compactness must be positive"):
            Superpixels(**keys)

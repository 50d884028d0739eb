"""Lungs: equalisation and threshold against plain loops, and a drawn chest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from medad_plugins.errors import InputError
from medad_plugins.synthesis import FindBodyd, FindDarkOrgansd, find_organ
from medad_plugins.synthesis.dark_organs import equalised, otsu


def _plain_equalised(image: NDArray[np.float32], clip: float, tiles: int) -> NDArray[np.float64]:
    """Two-dimensional, pixel by pixel, for sides that are multiples of the tiles."""
    low, high = image.min(), image.max()
    bins = np.minimum(((image - low) / (high - low) * 256).astype(int), 255)
    edges = [n // tiles for n in image.shape]
    curves = np.zeros((tiles, tiles, 256))
    for i in range(tiles):
        for j in range(tiles):
            tile = bins[i * edges[0] : (i + 1) * edges[0], j * edges[1] : (j + 1) * edges[1]]
            counts = [float((tile == value).sum()) for value in range(256)]
            limit = max(clip * tile.size, 1)
            excess = sum(max(count - limit, 0) for count in counts)
            curves[i, j] = np.cumsum([min(count, limit) + excess / 256 for count in counts]) / tile.size
    result = np.zeros(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            total = 0.0
            for i in range(tiles):
                for j in range(tiles):
                    weight = 1.0
                    for place, tile_index, edge in ((y, i, edges[0]), (x, j, edges[1])):
                        position = np.clip((place - (edge - 1) / 2) / edge, 0, tiles - 1)
                        weight *= max(0.0, 1 - abs(position - tile_index))
                    total += weight * curves[i, j, bins[y, x]]
            result[y, x] = total
    return (result - result.min()) / (result.max() - result.min())


def test_equalisation_is_that_of_its_definition() -> None:
    image = np.random.RandomState(0).rand(24, 16).astype(np.float32) ** 3
    np.testing.assert_allclose(equalised(image, 0.02, 4), _plain_equalised(image, 0.02, 4), atol=1e-5)


def test_threshold_is_the_best_of_all() -> None:
    rng = np.random.RandomState(1)
    values = np.concatenate([rng.normal(0.3, 0.05, 400), rng.normal(0.7, 0.1, 200)]).clip(0, 1).astype(np.float32)
    found = otsu(values)

    def within(threshold: float) -> float:
        parts = [values[values <= threshold], values[values > threshold]]
        return float(sum(len(part) * part.var() for part in parts if len(part)))

    best = min(within(threshold) for threshold in np.linspace(0.01, 0.99, 300))
    assert within(found) == pytest.approx(best, rel=0.02)


def _chest(dims: int, size: int = 96) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A bright body in black air with two dark lungs in it, a small dark hole, and a dark corner at the border."""
    axes = np.meshgrid(*[np.linspace(-1, 1, size)] * dims, indexing="ij")
    across, others = axes[1], [axes[0], *axes[2:]]
    along = np.add.reduce([np.square(g / 0.55) for g in others])
    image = np.zeros((size,) * dims)
    body = np.add.reduce([np.square(g / 0.9) for g in axes]) <= 1
    image[body] = 0.8
    lungs = (np.square((np.abs(across) - 0.4) / 0.25) + along) <= 1
    image[lungs] = 0.3
    hole = np.add.reduce([np.square(g / 0.05) for g in axes]) <= 1
    image[hole] = 0.3
    corner = np.maximum.reduce([np.abs(g + 1) for g in axes]) < 0.3
    image[corner] = 0.3
    noise = np.random.RandomState(0).normal(0, 0.02, image.shape)
    return np.where(image > 0, image + noise, 0).clip(0, 1).astype(np.float32), lungs


@pytest.mark.parametrize("dims", [2, 3])
def test_lungs_are_found_and_neither_air_nor_bright_tissue(dims: int) -> None:
    image, lungs = _chest(dims, 96 if dims == 2 else 48)
    case = {"image": image[None]}
    found = FindDarkOrgansd()(case)["body"]
    assert set(case) == {"image"}
    assert found.shape == (1, *image.shape) and found.dtype == torch.float32
    mask = found[0].numpy() > 0
    assert (mask & lungs).sum() / lungs.sum() > 0.8
    assert (mask & lungs).sum() / mask.sum() > 0.75
    centre = tuple(edge // 2 for edge in image.shape)
    assert not mask[centre] and not mask[(1,) * dims]


def test_nothing_dark_gives_an_empty_mask() -> None:
    flat = np.zeros((1, 32, 32), dtype=np.float32)
    assert not FindDarkOrgansd()({"image": flat})["body"].any()


def test_an_organ_by_its_name() -> None:
    assert isinstance(find_organ("lungs"), FindDarkOrgansd) and isinstance(find_organ(), FindBodyd)
    with pytest.raises(InputError, match="the organ is unknown: organ .expected body or lungs, found liver"):
        find_organ("liver")

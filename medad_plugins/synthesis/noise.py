"""Gradient noise of any dimension."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

__all__ = ["perlin_noise"]


def perlin_noise(rng: RandomState, shape: tuple[int, ...], cells: tuple[int, ...]) -> NDArray[np.float32]:
    """Perlin's gradient noise with the quintic fade on a lattice.

    Args:
        rng: draws the gradients.
        shape: voxels along each axis.
        cells: cells of the lattice along each axis.

    Returns:
        ``(*shape)``, about -1..1.

    Reference:
        Perlin, "Improving noise", SIGGRAPH 2002.
    """
    dims = len(shape)
    gradients = rng.normal(size=(dims, *(count + 1 for count in cells))).astype(np.float32)
    gradients /= np.maximum(np.linalg.norm(gradients, axis=0, keepdims=True), 1e-6)
    places = [(np.arange(edge, dtype=np.float32) + 0.5) * count / edge for edge, count in zip(shape, cells)]
    lower = [np.minimum(place.astype(int), count - 1) for place, count in zip(places, cells)]
    offset = [place - low for place, low in zip(places, lower)]
    fade = [t**3 * (t * (6 * t - 15) + 10) for t in offset]
    noise = np.zeros(shape, dtype=np.float32)

    def along(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        return values.reshape([-1 if a == axis else 1 for a in range(dims)])

    for corner in itertools.product((0, 1), repeat=dims):
        at_corner = gradients[(slice(None), *np.ix_(*[low + step for low, step in zip(lower, corner)]))]
        slope = sum(along(offset[a] - corner[a], a) * at_corner[a] for a in range(dims))
        for axis in range(dims):
            slope = slope * along(fade[axis] if corner[axis] else 1 - fade[axis], axis)
        noise += slope
    # the largest value in the middle of a cell is sqrt(dims) / 2
    return noise * np.float32(2 / np.sqrt(dims))

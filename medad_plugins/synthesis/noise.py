"""Gradient noise of any dimension."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

__all__ = ["perlin_noise"]


def _ramps(edge: int, cells: int) -> NDArray[np.float32]:
    """What the lattice's points along an axis contribute to its voxels, ``(2, edge, cells + 1)``.

    First the fades alone, then the fades times the distance from the point in cells.
    """
    place = (np.arange(edge) + 0.5) * cells / edge
    lower = np.minimum(place.astype(int), cells - 1)
    offset = place - lower
    fade = offset**3 * (offset * (6 * offset - 15) + 10)
    ramps = np.zeros((2, edge, cells + 1), dtype=np.float32)
    rows = np.arange(edge)
    ramps[0, rows, lower], ramps[0, rows, lower + 1] = 1 - fade, fade
    ramps[1, rows, lower], ramps[1, rows, lower + 1] = (1 - fade) * offset, fade * (offset - 1)
    return ramps


def perlin_noise(rng: RandomState, shape: tuple[int, ...], cells: tuple[int, ...]) -> NDArray[np.float32]:
    """Perlin's gradient noise with the quintic fade on a lattice.

    The slope along an axis is faded along every axis alike, so that each component of the gradients is a product of
    one matrix an axis: exact, and many times faster than corner by corner.

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
    # what has been faded along the axes so far: all components but the axis' own, summed, and those still to come
    done = np.zeros_like(gradients[0])
    waiting = list(gradients)
    for edge, count in zip(shape, cells):
        fades, slopes = _ramps(edge, count)
        own = waiting.pop(0)
        # each product moves its axis to the end, so that after the last one they stand in order again
        done = np.tensordot(done, fades, (0, 1)) + np.tensordot(own, slopes, (0, 1))
        waiting = [np.tensordot(values, fades, (0, 1)) for values in waiting]
    # the largest value in the middle of a cell is sqrt(dims) / 2
    noise: NDArray[np.float32] = done * np.float32(2 / np.sqrt(dims))
    return noise

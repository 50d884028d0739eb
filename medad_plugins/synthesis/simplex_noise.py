"""Simplex noise of any number of dimensions, and its sum over octaves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

__all__ = ["fractal_noise", "simplex_noise"]

_TABLE = 256
_REACH = 0.5  # squared radius of a corner's influence; the largest at which the noise is continuous
# bring the noise to the standard deviation of 0.32 that OpenSimplex noise has in three dimensions
_SCALES = {2: 59.0, 3: 88.6, 4: 137.0}


def simplex_noise(rng: RandomState, points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Smooth random values whose neighbouring hills lie about one unit apart.

    Every corner of a lattice of simplices has a random gradient, by Perlin's construction, and a point takes the ramps
    of the corners of its simplex, each faded out with the distance. All points of a call see the same noise.

    Args:
        rng: draws the gradients.
        points: ``(P, D)`` coordinates, D from 2 to 4.

    Returns:
        ``(P,)``, mean 0, standard deviation 0.32, at most a hundredth beyond -1..1; 0 on the lattice's corners.

    Raises:
        ValueError: for another number of dimensions.

    Reference:
        Perlin, "Noise hardware", SIGGRAPH course notes, 2001.
    """
    dims = points.shape[1]
    if dims not in _SCALES:
        raise ValueError(f"points must have 2 to 4 coordinates, got {dims}.")
    order = rng.permutation(_TABLE)
    gradients = rng.normal(size=(_TABLE, dims))
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    skew, unskew = (np.sqrt(dims + 1) - 1) / dims, (1 - 1 / np.sqrt(dims + 1)) / dims
    cell = np.floor(points + skew * points.sum(1, keepdims=True)).astype(np.int64)
    inside = points - cell + unskew * cell.sum(1, keepdims=True)
    # a simplex is walked from its first corner along the axes, the one with the largest coordinate first
    rank = (-inside).argsort(1, kind="stable").argsort(1, kind="stable")
    total = np.zeros(len(points))
    for corner in range(dims + 1):
        step = (rank < corner).astype(np.int64)
        offset = inside - step + corner * unskew
        index = np.zeros(len(points), dtype=np.int64)
        for axis in range(dims):
            index = order[(index + cell[:, axis] + step[:, axis]) % _TABLE]
        fade = np.maximum(_REACH - (offset**2).sum(1), 0) ** 4
        total += fade * (gradients[index] * offset).sum(1)
    return _SCALES[dims] * total


def fractal_noise(
    rng: RandomState,
    shape: Sequence[int],
    octaves: int = 6,
    persistence: float = 0.6,
    period: float = 32.0,
) -> NDArray[np.float32]:
    """Simplex noise of several sizes: each octave is half as coarse as the one before and ``persistence`` as strong.

    Args:
        rng: draws the noise.
        shape: of the array, 2 to 4 axes; for scans ``(C, *spatial)``, whose channels are then alike but not equal.
        octaves: how many.
        persistence: strength of an octave relative to the coarser one.
        period: distance of neighbouring hills of the first octave, in elements of the array.

    Returns:
        an array of that shape; its standard deviation is 0.4 for the defaults.

    Reference:
        Wyatt et al., "AnoDDPM", CVPR workshops 2022, for anomaly detection.
    """
    grid = np.stack(np.meshgrid(*[np.arange(edge) for edge in shape], indexing="ij"), -1).reshape(-1, len(shape))
    sizes = period / 2.0 ** np.arange(octaves)
    # shifted, for all octaves are 0 where the origin's lattice corners coincide
    shifts = rng.uniform(0, _TABLE, (octaves, 1, len(shape)))
    points = grid[None] / sizes[:, None, None] + shifts
    layers = simplex_noise(rng, points.reshape(-1, len(shape))).reshape(octaves, *shape)
    return np.tensordot(persistence ** np.arange(octaves), layers, 1).astype(np.float32)

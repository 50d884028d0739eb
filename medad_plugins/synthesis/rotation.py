"""Random rotations in two and three dimensions."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

__all__ = ["random_rotation"]


def random_rotation(rng: RandomState, dims: int, degrees: float) -> NDArray[np.float64]:
    """Product of rotations by uniform angles, each in the plane of two axes.

    Args:
        rng: draws the angles.
        dims: 2 or 3.
        degrees: largest angle in either direction.

    Returns:
        ``(dims, dims)``, orthogonal.
    """
    matrix = np.eye(dims)
    for first, second in itertools.combinations(range(dims), 2):
        angle = np.deg2rad(rng.uniform(-degrees, degrees))
        plane = np.eye(dims)
        plane[[first, second], [first, second]] = np.cos(angle)
        plane[first, second], plane[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ plane
    return matrix

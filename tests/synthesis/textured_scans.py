"""Scans that have texture everywhere, so that whatever is put in can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SHAPES: dict[int, tuple[int, ...]] = {2: (48, 40), 3: (26, 32, 20)}


def scan(spatial_dims: int, seed: int, channels: int = 1) -> NDArray[np.float32]:
    """``(C, *spatial)``, 0..1, of another texture for each seed."""
    noise = np.random.RandomState(seed).rand(channels, *SHAPES[spatial_dims])
    smooth = np.stack([ndimage.gaussian_filter(c, 1.0, mode="wrap") for c in noise])
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min())).astype(np.float32)


def body(spatial_dims: int) -> NDArray[np.bool_]:
    """An ellipsoid in the middle ``(*spatial)``."""
    axes = [(np.arange(n) - (n - 1) / 2) / (0.42 * n) for n in SHAPES[spatial_dims]]
    inside: NDArray[np.bool_] = sum(np.square(g) for g in np.meshgrid(*axes, indexing="ij")) <= 1
    return inside


def cases(spatial_dims: int, count: int = 4, channels: int = 1) -> list[dict[str, Any]]:
    """Cases as a preprocessing leaves them."""
    mask = body(spatial_dims)[None].astype(np.float32)
    return [{"image": scan(spatial_dims, i, channels), "case_id": f"c{i}", "body": mask} for i in range(count)]

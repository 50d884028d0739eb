"""Lesions of the head phantoms: each kind changes a blob of tissue inside the brain and nothing outside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.data.head_phantom import HeadPhantom, WaveField, rotation

__all__ = ["LESIONS", "add_lesion"]

Array = NDArray[np.float64]

# Changes of the intensity below this are not seen by eye; deformations end there.
VISIBLE_CHANGE = 0.03


class _Blob:
    """An irregular blob: ``level`` is 0 at its centre, 1 on its surface; ``points`` ``(3, N)`` are those inside."""

    def __init__(self, points: Array, centre: Array, radius: float, random: np.random.RandomState, voxel: float):
        self.random, self.centre, self.radius, self.voxel = random, centre[:, None], radius, voxel
        # The longest axis is at most 1.5 times as long as the shortest.
        stretch = np.exp(random.uniform(-0.2, 0.2, size=3))
        axes = rotation(random.uniform(0, 2 * np.pi, size=3))
        offset = axes @ (points - self.centre) * stretch[:, None] / radius
        outline = WaveField(random, wavelength=2.0, waves=4)(offset)[0]
        self.level = np.sqrt((offset**2).sum(axis=0)) * (1 + 0.12 * outline)
        self.inside = self.level < 1
        self.points, self.level = points[:, self.inside], self.level[self.inside]

    def weight(self, surface: float = 1.0) -> Array:
        """Weight ``(N,)`` that rises from 0 on the blob's surface to 1 a voxel and a half inside it."""
        return np.clip((surface - self.level) * self.radius / (1.5 * self.voxel), 0.0, 1.0)


def _texture(blob: _Blob, strength: float) -> Array:
    """Factor ``(N,)`` around 1 that makes a lesion's inside uneven, as lesions are."""
    waves = WaveField(blob.random, wavelength=max(0.16, 3 * blob.voxel), waves=5)(blob.points)[0]
    return 1 + strength * np.clip(waves, -1.5, 1.5)


def _bright_blob(head: HeadPhantom, tissue: Array, blob: _Blob) -> Array:
    contrast = blob.random.uniform(0.22, 0.30) * _texture(blob, 0.25)
    return tissue + contrast * blob.weight()


def _dark_blob(head: HeadPhantom, tissue: Array, blob: _Blob) -> Array:
    contrast = blob.random.uniform(0.45, 0.60) * _texture(blob, 0.25)
    return tissue * (1 - contrast * blob.weight())


def _ring_enhancing(head: HeadPhantom, tissue: Array, blob: _Blob) -> Array:
    """Necrotic core, enhancing rim, dark oedema around."""
    bright, oedema = blob.random.uniform(0.80, 0.88), blob.random.uniform(0.30, 0.45)
    changed = tissue * (1 - oedema * blob.weight())
    changed += blob.weight(0.75) * (bright - changed)
    return changed + blob.weight(0.45) * (0.2 - changed)


def _scrambled(head: HeadPhantom, tissue: Array, blob: _Blob) -> Array:
    """The head's own tissue with its places mixed up: a dysplasia."""
    size = blob.random.uniform(0.09, 0.13)
    jitter = WaveField(blob.random, wavelength=max(0.20, 4 * blob.voxel), waves=5, channels=3)(blob.points)
    mixed = head.tissue(blob.points + size * blob.weight() * jitter)
    # Near the surface the jitter reaches the bright scalp, which has no place in a brain.
    return np.minimum(mixed, np.maximum(tissue, head.tissues.white))


def _mass_effect(head: HeadPhantom, tissue: Array, blob: _Blob) -> Array:
    """A mass a little darker than grey matter that pushes the tissue around it aside."""
    pull = 1 - 0.9 * (1 - blob.level**2) ** 2
    changed = head.tissue(blob.centre + (blob.points - blob.centre) * pull)
    return changed + blob.weight(0.8) * (0.75 * head.tissues.grey * _texture(blob, 0.15) - changed)


def _resected(head: HeadPhantom, tissue: Array, blob: _Blob) -> Array:
    """A hole below the brain's surface, filled with CSF."""
    return tissue + blob.weight() * (head.tissues.csf - tissue)


# How each kind changes the tissue, the range of its diameter as a share of the head's length, and of its centre's
# distance from the brain's centre (1: on the surface).
LESIONS: dict[str, tuple[Callable[[HeadPhantom, Array, _Blob], Array], tuple[float, float], tuple[float, float]]] = {
    "bright_blob": (_bright_blob, (0.12, 0.19), (0.2, 0.8)),
    "dark_blob": (_dark_blob, (0.12, 0.19), (0.2, 0.8)),
    "ring_enhancing": (_ring_enhancing, (0.14, 0.20), (0.3, 0.8)),
    "scrambled": (_scrambled, (0.17, 0.22), (0.55, 0.85)),
    "mass_effect": (_mass_effect, (0.18, 0.22), (0.3, 0.75)),
    "resected": (_resected, (0.12, 0.18), (0.65, 0.85)),
}
HEAD_LENGTH = 1.75
# On a coarse grid a smaller lesion would be lost between the voxels.
MIN_RADIUS_VOXELS = 4.0


def add_lesion(
    head: HeadPhantom, tissue: Array, points: Array, kind: str, random: np.random.RandomState, grid: tuple[int, ...]
) -> tuple[Array, NDArray[np.bool_]]:
    """Put one lesion into a head.

    Args:
        head: the head.
        tissue: its intensities ``(N,)`` before the acquisition.
        points: positions ``(3, N)`` of the voxels in the field of view, -1..1.
        kind: one of :data:`LESIONS`.
        random: source of the lesion's place, size, shape and contrast.
        grid: voxels along each axis, their product is N.

    Returns:
        the intensities with the lesion, and its mask, outside of which they are as in ``tissue``, both ``(N,)``.

    Raises:
        ValueError: for an unknown kind, or a grid too coarse for a lesion.
    """
    if kind not in LESIONS:
        raise ValueError(f"unknown lesion {kind!r}, expected one of {', '.join(LESIONS)}")
    change, diameters, places = LESIONS[kind]
    radius = head.radius(points)
    # In CSF a hole or a dark blob would not be seen.
    suitable = (radius > places[0]) & (radius < places[1]) & (tissue > 0.9 * head.tissues.grey)
    if not suitable.any():
        raise ValueError(f"a grid of {grid} is too coarse for a lesion")
    # The first suitable voxel of a shuffle: rounding on another machine cannot move the lesion, as it could by changing
    # how many voxels there are to choose from.
    order = random.permutation(suitable.size)
    centre = points[:, order[np.argmax(suitable[order])]]
    voxel = 2 / grid[0]
    size = max(random.uniform(*diameters) * HEAD_LENGTH / 2, MIN_RADIUS_VOXELS * voxel)
    blob = _Blob(points, centre, size, random, voxel)
    changed = tissue.copy()
    changed[blob.inside] = change(head, tissue[blob.inside], blob)
    visible = (np.abs(changed - tissue) > VISIBLE_CHANGE).reshape(grid)
    # A reader outlines a lesion as a whole, with the few voxels in it that happen to look as before.
    outlined = ndimage.binary_fill_holes(ndimage.binary_closing(visible)).ravel() & blob.inside & (radius < 1)
    return np.where(outlined, changed, tissue), outlined

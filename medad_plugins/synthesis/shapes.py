"""Shapes of synthetic anomalies, before they are placed; all are drawn by an inclusion test in any dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.synthesis.host import Host
from medad_plugins.synthesis.rotation import random_rotation
from medad_plugins.synthesis.sizes import FoldedNormal, LogUniform, Sampler, ShiftedGamma, Uniform

__all__ = ["AreaCuboid", "Ball", "Cuboid", "EllipsoidUnion", "Scar", "Shape", "Sheared"]


# pixels of an image whose scars are two thirds of those that the paper has at 256
_SEEN = 256 * 2 / 3


class Shape(Protocol):
    """Draws ``alpha`` ``(*box)``, 0..1, of a shape that fits the host."""

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]: ...


def _voxels(host: Host, sizes: list[float], unit: str) -> list[float]:
    """Sizes along the axes in voxels, from fractions of the image's sides or from millimetres."""
    if unit == "mm":
        return [size / spacing for size, spacing in zip(sizes, host.spacing)]
    return [size * edge for size, edge in zip(sizes, host.shape)]


def _side(size: float, dims: int) -> float:
    """A fraction of an image's side as a fraction of a volume's, so that a shape keeps its share of the whole.

    Papers give sides for images. The same sides of a volume are a share smaller by a power: too little of it to learn
    from.
    """
    return size ** (2 / dims)


def _check_unit(unit: str) -> str:
    if unit not in ("fraction", "mm"):
        raise ValueError(f"unit must be 'fraction' or 'mm', got {unit!r}.")
    return unit


def _whole(sizes: list[float], shape: tuple[int, ...]) -> tuple[int, ...]:
    """At least one voxel and at most the image along each axis."""
    return tuple(int(np.clip(round(size), 1, edge)) for size, edge in zip(sizes, shape))


def _box(shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.ones(shape, dtype=np.float32)


Inclusion = Callable[[NDArray[np.float64]], NDArray[np.bool_]]


def _in_ellipsoid(place: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.square(place).sum(0) <= 1
    return inside


def _in_cuboid(place: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = np.abs(place).max(0) <= 1
    return inside


_KINDS: dict[str, Inclusion] = {"ellipsoid": _in_ellipsoid, "cuboid": _in_cuboid}


def _drawn(
    inclusion: Inclusion, matrix: NDArray[np.float64], spacing: tuple[float, ...], limit: tuple[int, ...]
) -> NDArray[np.float32]:
    """The image of a unit shape under a matrix that maps it to millimetres, on the voxel grid, at most ``limit``."""
    reach = np.abs(matrix).sum(1) / np.asarray(spacing)  # holds any shape inside the unit cube
    half = [min(int(np.ceil(r)), (edge - 1) // 2) for r, edge in zip(reach, limit)]
    axes = [np.arange(-h, h + 1) * step for h, step in zip(half, spacing)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(len(axes), -1)
    inside = inclusion(np.linalg.solve(matrix, grid)).reshape([len(axis) for axis in axes])
    inside[tuple(h for h in half)] = True  # a shape smaller than a voxel is one voxel
    return inside.astype(np.float32)


class Cuboid:
    """Box with sides of the host's proportions (one draw) or of its own (one draw an axis).

    Args:
        side: length of a side; in volumes a fraction is taken to the power 2 / 3, so that the share of the whole stays.
        unit: ``"fraction"`` of the image's sides, or ``"mm"``.
        equal: one draw for all axes, as foreign patch interpolation has it.
    """

    def __init__(self, side: Sampler = Uniform(0.1, 0.4), unit: str = "fraction", equal: bool = True) -> None:
        self.side, self.unit, self.equal = side, _check_unit(unit), equal

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        first = self.side(rng)
        dims = host.spatial_dims
        sizes = [first if self.equal or axis == 0 else self.side(rng) for axis in range(dims)]
        if self.unit == "fraction":
            sizes = [_side(size, dims) for size in sizes]
        return _box(_whole(_voxels(host, sizes, self.unit), host.shape))


class AreaCuboid:
    """Box of a given share of the image's area or volume and a random aspect, as CutPaste has it.

    Args:
        share: of the image.
        aspect: of two sides, a random number about 1.

    Reference:
        Li et al., "CutPaste", CVPR 2021.
    """

    def __init__(self, share: Sampler = Uniform(0.02, 0.15), aspect: Sampler = LogUniform(0.3, 1 / 0.3)) -> None:
        self.share, self.aspect = share, aspect

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        dims = host.spatial_dims
        share = self.share(rng)
        ratios = [1.0, *(self.aspect(rng) for _ in range(dims - 1)), 1.0]
        sides = [share ** (1 / dims) * np.sqrt(ratios[i + 1] / ratios[i]) for i in range(dims)]
        shuffled = [sides[i] for i in rng.permutation(dims)]
        return _box(_whole(_voxels(host, shuffled, "fraction"), host.shape))


class Scar:
    """Long thin box at a random angle, as CutPaste's scars.

    The paper's scars are of images of 256 pixels. Smaller images get them larger than by proportion, at least two
    thirds of the paper's pixels as far as the length fits into a third of the image, and never thinner than 2 pixels:
    a network does not see less. In volumes, where such a scar would be a few voxels of a hundred thousand, it is 2 to
    5 voxels thick and as long as ``long`` says.

    Args:
        width: of the short sides, a fraction of the shortest side of the image.
        length: of the long side, likewise.
        degrees: largest rotation in each plane.
        thick: of the short sides in volumes, in voxels.
        long: of the long side in volumes, a fraction of the shortest side; at least 5 voxels.
    """

    def __init__(
        self,
        width: Sampler = Uniform(2 / 256, 16 / 256),
        length: Sampler = Uniform(10 / 256, 25 / 256),
        degrees: float = 45.0,
        thick: Sampler = Uniform(2, 5),
        long: Sampler = Uniform(0.15, 0.6),
    ) -> None:
        self.width, self.length, self.degrees = width, length, degrees
        self.thick, self.long = thick, long

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        dims = host.spatial_dims
        shortest = min(edge * step for edge, step in zip(host.shape, host.spacing))
        voxel, step = min(host.spacing), max(host.spacing)
        if dims == 3:
            sides = [max(self.thick(rng) * voxel, 1.5 * step) for _ in range(2)]
            sides.append(max(self.long(rng) * shortest, 5 * voxel))
        else:
            width, length = self.width(rng), self.length(rng)
            enlarged = max(shortest, min(_SEEN * voxel, shortest / 3 / length))
            sides = [max(width * enlarged, 2 * voxel), length * enlarged]
        halves = np.array(sides) / 2
        matrix = random_rotation(rng, dims, self.degrees) @ np.diag(halves[rng.permutation(dims)])
        return _drawn(_in_cuboid, matrix, host.spacing, host.shape)


class Ball:
    """Disk or ball, round in millimetres.

    Args:
        radius: a fraction of the shortest side of the image, or millimetres. The default is this project's own: the
            paper names a normal distribution and not its values.
        unit: ``"fraction"`` or ``"mm"``.

    Reference:
        after Mueller et al., "Confidence-Aware and Self-Supervised Image Anomaly Localisation", UNSURE 2023.
    """

    def __init__(
        self, radius: Sampler = FoldedNormal(mean=0.10, sd=0.05, low=0.03, high=0.25), unit: str = "fraction"
    ) -> None:
        self.radius, self.unit = radius, _check_unit(unit)

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        radius = self.radius(rng)
        if self.unit == "fraction":
            radius *= min(edge * step for edge, step in zip(host.shape, host.spacing))
        return _drawn(_in_ellipsoid, radius * np.eye(host.spatial_dims), host.spacing, host.shape)


class Sheared:
    """Cuboid or ellipsoid of random sides, sheared and turned.

    Args:
        side: full length along each axis, a fraction of the image's side; in volumes to the power 2 / 3, so that the
            share of the whole stays.
        shear: standard deviation of each axis' shear into another one.
        degrees: largest rotation in each plane.
        largest: a turned shape that is longer than this fraction of a side is made smaller as a whole.

    Reference:
        Baugh et al., "Many Tasks Make Light Work", MICCAI 2023.
    """

    def __init__(
        self,
        side: Sampler = ShiftedGamma(shape=2, scale=0.1, offset=0.03, low=0.06, high=0.8),
        shear: float = 0.2,
        degrees: float = 90.0,
        largest: float = 0.8,
    ) -> None:
        self.side, self.shear, self.degrees, self.largest = side, shear, degrees, largest

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        dims = host.spatial_dims
        inclusion = _KINDS[("cuboid", "ellipsoid")[rng.randint(2)]]
        lengths = np.multiply(host.shape, host.spacing)
        halves = np.array([_side(self.side(rng), dims) for _ in range(dims)]) * lengths / 2
        shear = np.eye(dims)
        for axis in range(dims):
            other = (axis + 1 + rng.randint(dims - 1)) % dims
            shear[axis, other] = rng.normal(0, self.shear)
        matrix = random_rotation(rng, dims, self.degrees) @ shear @ np.diag(halves)
        reach = np.abs(matrix).sum(1)
        matrix *= min(1.0, float((self.largest * lengths / 2 / reach).min()))
        return _drawn(inclusion, matrix, host.spacing, host.shape)


class EllipsoidUnion:
    """Union of turned ellipsoids inside a box, as natural synthetic anomalies have it.

    Args:
        half_width: of the box along each axis, a fraction of the image's side; in volumes the full width to the power
            2 / 3, so that the share of the whole stays.
        count: ellipsoids.

    Reference:
        Schlueter et al., "Natural Synthetic Anomalies", ECCV 2022.
    """

    def __init__(
        self,
        half_width: Sampler = ShiftedGamma(shape=2, scale=0.03, offset=0.05, low=0.03, high=0.4),
        count: int = 5,
    ) -> None:
        self.half_width, self.count = half_width, count

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        dims = host.spatial_dims
        sides = [_side(2 * self.half_width(rng), dims) for _ in range(dims)]
        box = np.zeros(_whole(_voxels(host, sides, "fraction"), host.shape), dtype=np.float32)
        lengths = np.multiply(box.shape, host.spacing)
        axes = [(np.arange(edge) - (edge - 1) / 2) * step for edge, step in zip(box.shape, host.spacing)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(dims, -1)
        for _ in range(self.count):
            halves = rng.uniform(0.15, 0.5, dims) * lengths
            centre = rng.uniform(-0.25, 0.25, dims) * lengths
            matrix = random_rotation(rng, dims, 90.0) @ np.diag(np.maximum(halves, np.asarray(host.spacing) / 2))
            inside = _in_ellipsoid(np.linalg.solve(matrix, grid - centre[:, None]))
            box[inside.reshape(box.shape)] = 1
        return box

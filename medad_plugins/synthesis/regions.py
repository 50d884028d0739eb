"""Where an anomaly is placed: shapes at a place, noise over the whole scan, and what can be made of regions."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.errors import InputError
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.noise import perlin_noise
from medad_plugins.synthesis.shapes import Shape
from medad_plugins.synthesis.sizes import Sampler, Uniform

__all__ = ["CombinedRegion", "NoiseRegion", "PlacedRegion", "RegionSampler"]


class RegionSampler(Protocol):
    """Draws a region of the host, or None where none could be found."""

    def __call__(self, rng: RandomState, host: Host) -> Region | None: ...


CENTRES = ("uniform", "normal", "body")


class PlacedRegion:
    """A shape with its centre at a random place.

    Args:
        shape: draws the shape.
        centre: ``"uniform"`` in the core, ``"normal"`` about the middle, or ``"body"``: on a random voxel of the body.
        core: share of each side, about the middle, in which the centre lies.
        spread: standard deviation of ``"normal"``, a share of each side.
        whole: the shape must lie in the image entirely; otherwise it is cut at the border.
        overlap: least share of the region that must lie in the host's body.
        inside_body: what lies outside the body is cut off.
        tries: how many shapes and places are tried.

    A host without any body voxel gets no region.

    Raises:
        InputError: for shares outside of 0..1.
    """

    def __init__(
        self,
        shape: Shape,
        centre: str = "uniform",
        core: float = 1.0,
        spread: float = 0.2,
        whole: bool = False,
        overlap: float = 0.5,
        inside_body: bool = False,
        tries: int = 50,
    ) -> None:
        if centre not in CENTRES:
            raise ValueError(f"centre must be one of {CENTRES}, got {centre!r}.")
        if not (0 < core <= 1 and 0 <= overlap <= 1 and tries >= 1):
            raise InputError(
                "an anomaly cannot be placed so",
                where="core, overlap, tries",
                expected="a share above 0, a share, and at least 1",
                found=f"{core}, {overlap}, {tries}",
            )
        self.shape, self.centre, self.core, self.spread = shape, centre, core, spread
        self.whole, self.overlap, self.inside_body, self.tries = whole, overlap, inside_body, tries

    def __call__(self, rng: RandomState, host: Host) -> Region | None:
        body = None if host.body is None else np.argwhere(host.body) if self.centre == "body" else None
        if host.body is not None and not host.body.any():
            return None
        for _ in range(self.tries):
            alpha = self.shape(rng, host)
            start = self._start(rng, host, alpha.shape, body)
            region = Region(start, alpha).clipped(host.shape)
            if region is not None and self._fits(region, host):
                return self._cut(region, host)
        return None

    def _start(
        self, rng: RandomState, host: Host, size: tuple[int, ...], body: NDArray[np.intp] | None
    ) -> tuple[int, ...]:
        edges = np.asarray(host.shape, dtype=float)
        if self.centre == "body" and body is not None:
            middle = body[rng.randint(len(body))].astype(float)
        elif self.centre == "normal":
            middle = rng.normal((edges - 1) / 2, self.spread * edges)
        else:
            half = self.core * edges / 2
            if self.whole:
                half = np.minimum(half, np.maximum(edges - np.asarray(size), 0) / 2)
            middle = rng.uniform((edges - 1) / 2 - half, (edges - 1) / 2 + half)
        start = np.round(middle - (np.asarray(size) - 1) / 2).astype(int)
        if self.whole:
            start = np.clip(start, 0, np.asarray(host.shape) - np.asarray(size))
        return tuple(int(first) for first in start)

    def _fits(self, region: Region, host: Host) -> bool:
        if host.body is None:
            return True
        share = float(host.body[region.box][region.inside].mean())
        return share > 0 and share >= self.overlap

    def _cut(self, region: Region, host: Host) -> Region | None:
        if host.body is None or not self.inside_body:
            return region
        return Region(region.start, region.alpha * host.body[region.box]).clipped(host.shape)


class NoiseRegion:
    """Where Perlin noise is high: many ragged islands over the whole scan.

    Args:
        largest_octave: the lattice has 2 to the power of 0 up to this many cells along an axis; one power is drawn for
            all axes and each then differs by at most one, or the islands would be stripes along an axis. None takes
            the one whose cells have about 8 voxels of the shortest side: finer islands are lost on a network's grid.
        threshold: of noise of amplitude one; None takes a quantile instead, as volumes need (a fixed threshold leaves
            almost nothing of 3D noise).
        quantile: draws the share of voxels that stay out.
        share: draws the share of the body, or of the scan where no body is known, that takes part, in place of both.

    Reference:
        Zavrtanik et al., "DRAEM", ICCV 2021.
    """

    def __init__(
        self,
        largest_octave: int | None = None,
        threshold: float | None = None,
        quantile: Sampler = Uniform(0.9, 0.995),
        share: Sampler | None = None,
    ) -> None:
        self.largest_octave, self.threshold, self.quantile, self.share = largest_octave, threshold, quantile, share

    def __call__(self, rng: RandomState, host: Host) -> Region | None:
        largest = self.largest_octave
        if largest is None:
            largest = max(1, round(np.log2(min(host.shape) / 8)))
        octave = rng.randint(1, largest + 1)
        finest = [min(largest, max(0, int(np.log2(edge)) - 1)) for edge in host.shape]
        cells = tuple(2 ** int(np.clip(octave + rng.randint(-1, 2), 0, limit)) for limit in finest)
        noise = perlin_noise(rng, host.shape, cells)
        if self.share is not None:
            counted = noise if host.body is None or not host.body.any() else noise[host.body]
            threshold = _quantile(counted, 1 - self.share(rng))
        else:
            threshold = _quantile(noise, self.quantile(rng)) if self.threshold is None else self.threshold
        alpha = (noise > threshold).astype(np.float32)
        if host.body is not None:
            alpha *= host.body
        return Region((0,) * host.spatial_dims, alpha).clipped(host.shape)


def _quantile(values: NDArray[np.float32], share: float) -> float:
    # one partition; numpy's quantile makes several and interpolates, which costs more than the noise
    rank = min(int(share * values.size), values.size - 1)
    return float(np.partition(values, rank, axis=None)[rank])


class CombinedRegion:
    """Of two regions the first alone, the union or the intersection, by equal chance.

    Args:
        first: region.
        second: region.

    Reference:
        Chen et al., "A Unified Anomaly Synthesis Strategy with Gradient Ascent", ECCV 2024.
    """

    def __init__(self, first: RegionSampler, second: RegionSampler) -> None:
        self.first, self.second = first, second

    def __call__(self, rng: RandomState, host: Host) -> Region | None:
        choice = rng.randint(3)
        regions = [self.first(rng, host), self.second(rng, host)]
        if choice == 0:
            return regions[0]
        planes = np.zeros((2, *host.shape), dtype=np.float32)
        for plane, region in zip(planes, regions):
            if region is not None:
                plane[region.box] = region.alpha
        alpha = planes.max(0) if choice == 1 else planes.min(0)
        return Region((0,) * host.spatial_dims, alpha).clipped(host.shape)

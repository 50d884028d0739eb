"""How content and scan become one, and changes of the scan that need no content."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.poisson import blend_gradients
from medad_plugins.synthesis.sizes import Sampler, ShiftedGamma, Uniform

__all__ = ["Blended", "Blender", "Deform", "Mix", "Paste", "PoissonBlend", "SmoothIntensity"]

Blended = tuple[NDArray[np.float32], float]


class Blender(Protocol):
    """New values ``(C, *box)`` of the region's box, and the factor: the share of what is foreign, 0..1."""

    def __call__(
        self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None
    ) -> Blended: ...


def _own(host: Host, region: Region) -> NDArray[np.float32]:
    return host.image[(slice(None), *region.box)]


def _needed(content: NDArray[np.float32] | None) -> NDArray[np.float32]:
    if content is None:
        raise ValueError("this blender needs a source.")
    return content


class Paste:
    """Content over the scan, as opaque as the region's alpha."""

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own = _own(host, region)
        return own + region.alpha * (_needed(content) - own), float(region.alpha.max())


class Mix:
    """A random share of content everywhere in the region, as foreign patch interpolation has it.

    Args:
        factor: draws the share of the content.

    Reference:
        Tan et al., "Detecting Outliers with Foreign Patch Interpolation", MELBA 2022.
    """

    def __init__(self, factor: Sampler = Uniform(0.05, 0.95)) -> None:
        self.factor = factor

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own, factor = _own(host, region), self.factor(rng)
        return own + np.float32(factor) * region.alpha * (_needed(content) - own), factor


class PoissonBlend:
    """Gradients of the content on the scan's own level, without a seam, clipped to the scan's range.

    Args:
        guidance: ``"source"`` gradients, ``"mixed"`` (the stronger of both), or ``"weighted"``: the stronger of both
            after weighting by a random factor, as Poisson image interpolation has it.
        factor: draws the weight of the content for ``"weighted"``.

    Reference:
        Tan et al., "Detecting Outliers with Poisson Image Interpolation", MICCAI 2021.
    """

    def __init__(self, guidance: str = "mixed", factor: Sampler = Uniform(0.05, 0.95)) -> None:
        if guidance not in ("source", "mixed", "weighted"):
            raise ValueError(f"guidance must be 'source', 'mixed' or 'weighted', got {guidance!r}.")
        self.guidance, self.factor = guidance, factor

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        share = self.factor(rng) if self.guidance == "weighted" else None
        mixed = self.guidance != "source"
        own = _own(host, region)
        pairs = zip(own, _needed(content), host.image)
        blended = [
            np.clip(blend_gradients(target, foreign, region.inside, share, mixed), whole.min(), whole.max())
            for target, foreign, whole in pairs
        ]
        return np.stack(blended), 1.0 if share is None else share


class SmoothIntensity:
    """Brighter or darker, more so away from the region's edge.

    Args:
        offset: draws how much, on the image's scale; the sign is drawn too.
        ramp: draws the width of the edge, a fraction of the region's largest depth.

    Reference:
        Baugh et al., "Many Tasks Make Light Work", MICCAI 2023.
    """

    def __init__(
        self,
        offset: Sampler = ShiftedGamma(shape=3, scale=0.2, offset=0.1, low=0.1, high=2.0),
        ramp: Sampler = Uniform(0.2, 1.0),
    ) -> None:
        self.offset, self.ramp = offset, ramp

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own = _own(host, region)
        sign = 1 if rng.randint(2) else -1
        depth = ndimage.distance_transform_edt(np.pad(region.inside, 1))[(slice(1, -1),) * region.alpha.ndim]
        weight = np.minimum(depth / max(self.ramp(rng) * float(depth.max()), 1e-6), 1)
        changed = own + np.float32(sign * self.offset(rng)) * weight.astype(np.float32)
        ranges = [(float(c.min()), float(c.max())) for c in host.image]
        return np.stack([np.clip(c, *limits) for c, limits in zip(changed, ranges)]), 1.0


class Deform:
    """Tissue drawn towards a point of the region or pushed away from it, the region's edge held.

    Args:
        kind: ``"sink"`` (towards the point), ``"source"`` (away from it) or ``"either"``.
        push: draws the largest displacement, a fraction of the distance to the region's edge, below 1.

    Reference:
        Baugh et al., "Many Tasks Make Light Work", MICCAI 2023.
    """

    def __init__(self, kind: str = "either", push: Sampler = Uniform(0.2, 0.8)) -> None:
        if kind not in ("sink", "source", "either"):
            raise ValueError(f"kind must be 'sink', 'source' or 'either', got {kind!r}.")
        self.kind, self.push = kind, push

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own = _own(host, region)
        sinks = rng.randint(2) == 0 if self.kind == "either" else self.kind == "sink"
        push = self.push(rng)
        depth = ndimage.distance_transform_edt(np.pad(region.inside, 1))[(slice(1, -1),) * region.alpha.ndim]
        deep = np.argwhere(depth >= 0.5 * depth.max())
        centre = deep[rng.randint(len(deep))].astype(float)
        grid = np.stack(np.meshgrid(*[np.arange(n) for n in region.alpha.shape], indexing="ij")).astype(float)
        ray = grid - centre.reshape([-1] + [1] * region.alpha.ndim)
        radius = np.linalg.norm(ray, axis=0)
        # along each ray, 0 at the centre and 1 at the region's edge; convex regions have one edge a ray
        relative = radius / np.maximum(radius + depth, 1e-6)
        # a voxel shows what lay further out (drawn towards the centre), or further in (pushed away from it)
        shift = push * relative * (1 - relative)
        sampled = relative + shift if sinks else relative - shift
        factor = np.where(radius > 0, sampled / np.maximum(relative, 1e-6), 1)
        place = centre.reshape([-1] + [1] * region.alpha.ndim) + ray * factor
        moved = np.stack([ndimage.map_coordinates(c, place, order=1, mode="nearest") for c in own])
        return np.where(region.inside, moved, own).astype(np.float32), 1.0

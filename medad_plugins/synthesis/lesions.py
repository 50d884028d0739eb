"""Lesions of volumes with sizes in millilitres, to test with: no method here is trained with any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.synthesis.blenders import Blended, Blender, Deform
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.regions import PlacedRegion
from medad_plugins.synthesis.rotation import random_rotation
from medad_plugins.synthesis.shapes import _drawn
from medad_plugins.synthesis.sizes import LogUniform, Sampler, Uniform

__all__ = ["LESIONS", "Cavity", "InTurn", "Lump", "SoftChange", "Spots", "lesion_recipes"]


class Lump:
    """An uneven lump of a volume: an ellipsoid of random axes, turned, whose surface is lower in some directions.

    Args:
        millilitres: draws its volume; it is met by the shape before anything is cut off at the border.
        longest: of the axes, the longest is at most so many times the shortest.
        unevenness: how much lower the surface may be, a fraction of the radius.
    """

    def __init__(
        self, millilitres: Sampler = LogUniform(0.5, 20), longest: float = 1.8, unevenness: float = 0.35
    ) -> None:
        self.millilitres, self.longest, self.unevenness = millilitres, longest, unevenness

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        wanted = 1000 * self.millilitres(rng)
        ratios = np.exp(rng.uniform(0, np.log(self.longest), 3))
        waves, phases = rng.normal(0, 2.5, (3, 3)), rng.uniform(0, 2 * np.pi, 3)

        def inclusion(place: NDArray[np.float64]) -> NDArray[np.bool_]:
            radius = np.linalg.norm(place, axis=0)
            direction = place / np.maximum(radius, 1e-9)
            # 0..1 over the sphere, smooth
            lowered = (np.sin(waves @ direction + phases[:, None]).mean(0) + 1) / 2
            inside: NDArray[np.bool_] = radius <= 1 - self.unevenness * lowered
            return inside

        voxel = float(np.prod(host.spacing))
        size = (wanted / (4 / 3 * np.pi)) ** (1 / 3)
        turn = random_rotation(rng, 3, 90.0) @ np.diag(ratios / np.prod(ratios) ** (1 / 3))
        for _ in range(3):  # each time as much larger as it was too small
            alpha = _drawn(inclusion, size * turn, host.spacing, host.shape)
            size *= (wanted / (float(alpha.sum()) * voxel)) ** (1 / 3)
        return alpha


class Spots:
    """Several small balls near each other, of a volume together.

    Args:
        millilitres: draws the volume of all.
        count: draws how many.
        apart: within what distance they lie, in millimetres.
    """

    def __init__(
        self, millilitres: Sampler = LogUniform(0.5, 20), count: Sampler = Uniform(4, 10), apart: float = 50.0
    ) -> None:
        self.millilitres, self.count, self.apart = millilitres, count, apart

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        count = round(self.count(rng))
        shares = rng.uniform(0.3, 1.0, count)
        shares *= 1000 * self.millilitres(rng) / shares.sum()
        edges = tuple(int(min(edge, self.apart / step + 1)) for edge, step in zip(host.shape, host.spacing))
        box = np.zeros(edges, dtype=np.float32)
        axes = [np.arange(edge) * step for edge, step in zip(edges, host.spacing)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"))
        for volume in shares:
            centre = np.array([rng.uniform(0, axis[-1]) for axis in axes]).reshape(3, 1, 1, 1)
            radius = max((volume / (4 / 3 * np.pi)) ** (1 / 3), max(host.spacing) / 2)
            box[np.linalg.norm(grid - centre, axis=0) <= radius] = 1
        return box


class SoftChange:
    """Brighter or darker by an offset, with a soft edge and the scan's own texture.

    Args:
        offset: draws how much, on the image's scale; the sign is drawn too.
        edge: standard deviation of the edge, in voxels.
    """

    def __init__(self, offset: Sampler = Uniform(0.15, 0.35), edge: float = 0.7) -> None:
        self.offset, self.edge = offset, edge

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own = host.image[(slice(None), *region.box)]
        offset = np.float32(self.offset(rng) * (1 if rng.randint(2) else -1))
        changed = own + offset * _softened(region, self.edge)
        return np.clip(changed, host.image.min(), host.image.max()).astype(np.float32), 1.0


class Cavity:
    """Tissue taken out: filled with what is darkest in the body, with a soft edge and a little noise.

    Args:
        percentile: of the body's intensities that fills it.
        edge: standard deviation of the edge, in voxels.
    """

    def __init__(self, percentile: float = 3.0, edge: float = 0.6) -> None:
        self.percentile, self.edge = percentile, edge

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        own = host.image[(slice(None), *region.box)]
        body = host.image[:, host.body] if host.body is not None else host.image.reshape(len(host.image), -1)
        level = np.percentile(body, self.percentile, axis=1).reshape(-1, 1, 1, 1)
        filled = level + rng.normal(0, 0.02, own.shape)
        return (own + _softened(region, self.edge) * (filled - own)).astype(np.float32), 1.0


class InTurn:
    """Blenders one after the other, the second on what the first has made, in the inner part of the region.

    Args:
        first: in the whole region.
        second: in its inner part.
        inner: depth at which that begins, a fraction of the largest.
    """

    def __init__(self, first: Blender, second: Blender, inner: float = 0.5) -> None:
        self.first, self.second, self.inner = first, second, inner

    def __call__(self, rng: RandomState, host: Host, region: Region, content: NDArray[np.float32] | None) -> Blended:
        values, factor = self.first(rng, host, region, content)
        image = host.image.copy()
        image[(slice(None), *region.box)] = values
        depth = ndimage.distance_transform_edt(np.pad(region.inside, 1))[1:-1, 1:-1, 1:-1]
        core = Region(region.start, (depth >= self.inner * depth.max()).astype(np.float32))
        return self.second(rng, Host(image, host.spacing, host.body), core, content)[0], factor


def _softened(region: Region, edge: float) -> NDArray[np.float32]:
    """The region's alpha without its hard edge, zero beyond it."""
    soft: NDArray[np.float32] = ndimage.gaussian_filter(region.alpha, edge) * (region.alpha > 0)
    return soft


def lesion_recipes(millilitres: Sampler = LogUniform(0.5, 20)) -> list[Recipe]:
    """Blobs, spots as of white-matter disease, resections and masses that push tissue aside, in the body.

    Args:
        millilitres: draws the volume of a lesion; of a mass that of what it pushes aside.
    """
    lump = PlacedRegion(Lump(millilitres), centre="body", overlap=0.9, inside_body=True)
    spots = PlacedRegion(Spots(millilitres), centre="body", overlap=0.8, inside_body=True)
    mass = InTurn(Deform("source", Uniform(0.5, 0.9)), SoftChange(Uniform(0.1, 0.25)))
    return [
        Recipe("lesion_blob", lump, SoftChange()),
        Recipe("lesion_spots", spots, SoftChange()),
        Recipe("lesion_resection", lump, Cavity()),
        Recipe("lesion_mass", lump, mass, tolerance=0.02),
    ]


LESIONS: Sequence[str] = tuple(recipe.name for recipe in lesion_recipes())

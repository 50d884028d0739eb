"""Regions of a stated share of the body: sizes that papers give for images are too small to learn from in volumes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.errors import InputError
from medad_plugins.synthesis.found_region import FoundRegion
from medad_plugins.synthesis.host import Host
from medad_plugins.synthesis.recipe import Recipe
from medad_plugins.synthesis.regions import CombinedRegion, NoiseRegion, PlacedRegion, RegionSampler
from medad_plugins.synthesis.shapes import Scar, Shape
from medad_plugins.synthesis.sizes import Geometric, Sampler, Uniform

__all__ = ["OfBody", "with_share"]


class OfBody:
    """Another shape, made larger or smaller as a whole until it fills a share of the body.

    The share is that of the shape before anything is cut off at the border of the body or of the scan; without a mask
    of the body it is one of the scan.

    Args:
        shape: the other one.
        share: draws the share, 0..1.
    """

    def __init__(self, shape: Shape, share: Sampler = Uniform(0.03, 0.12)) -> None:
        self.shape, self.share = shape, share

    def __call__(self, rng: RandomState, host: Host) -> NDArray[np.float32]:
        alpha = self.shape(rng, host)
        whole = float(np.prod(host.shape)) if host.body is None else float(host.body.sum())
        factor = (self.share(rng) * whole / max(float((alpha > 0).sum()), 1.0)) ** (1 / alpha.ndim)
        edges = [int(np.clip(round(edge * factor), 1, most)) for edge, most in zip(alpha.shape, host.shape)]
        zoom = [new / old for new, old in zip(edges, alpha.shape)]
        scaled = ndimage.zoom(alpha, zoom, order=1, mode="nearest", grid_mode=True)
        if bool(np.isin(alpha, (0, 1)).all()):
            scaled = (scaled > 0.5).astype(np.float32)
        if not (scaled > 0).any():  # thinner than a voxel
            scaled[tuple(edge // 2 for edge in scaled.shape)] = 1
        return scaled.astype(np.float32)


def with_share(recipes: Sequence[Recipe], share: Sequence[float] | None = (0.03, 0.12)) -> list[Recipe]:
    """Recipes whose regions together fill a share of the body, drawn evenly from a range, whatever their own sizes are.

    A network that predicts where anomalies are answers "nowhere" while they fill little of a scan: of 1 % nothing is
    learnt, of about 7 % it is within minutes. Scars stay as they are, for they are to be thin.

    Args:
        recipes: ways to make anomalies.
        share: lowest and highest share of the body; None leaves the recipes as they are.

    Raises:
        InputError: the shares are not two ascending numbers above 0 and at most 1.
    """
    if share is None:
        return list(recipes)
    limits = list(share) if isinstance(share, (list, tuple)) else []
    if len(limits) != 2 or not 0 < limits[0] <= limits[1] <= 1:
        expected = "lowest and highest share of the body, above 0 and at most 1, or null"
        raise InputError("anomalies cannot have this size", where="share", expected=expected, found=share)
    return [replace(recipe, region=_sized(recipe.region, _each(recipe.count, *limits))) for recipe in recipes]


def _each(count: Sampler | None, low: float, high: float) -> Sampler:
    """The share of one region, where a recipe makes several of them together."""
    usual = count.mean if isinstance(count, Geometric) else 1.0
    return Uniform(low / usual, high / usual)


def _sized(region: RegionSampler, share: Sampler) -> RegionSampler:
    sized = copy(region)
    if isinstance(sized, PlacedRegion) and not isinstance(sized.shape, Scar):
        sized.shape = OfBody(sized.shape, share)
    elif isinstance(sized, NoiseRegion):
        sized.share = share
    elif isinstance(sized, CombinedRegion):
        sized.first, sized.second = _sized(sized.first, share), _sized(sized.second, share)
    elif isinstance(sized, FoundRegion):
        sized.region = _sized(sized.region, share)
    return sized

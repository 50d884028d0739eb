"""MedMix: a known number of foreign patches that do not touch, so that the number can be predicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.synthesis.blenders import Paste
from medad_plugins.synthesis.contents import AddNoise, ContentTransform, Gamma
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.recipe import Recipe, SyntheticAnomaly
from medad_plugins.synthesis.regions import PlacedRegion
from medad_plugins.synthesis.shapes import AreaCuboid
from medad_plugins.synthesis.sizes import LogUniform, Uniform
from medad_plugins.synthesis.soft_patch import SoftPatch
from medad_plugins.synthesis.sources import Foreign, ForeignElsewhere

__all__ = ["SeparateRecipe", "medmix"]


@dataclass(frozen=True)
class SeparateRecipe(Recipe):
    """A recipe that makes exactly so many changes, whose boxes do not touch, or none at all.

    Args:
        times: how many changes; `Recipe` makes each as one of its own.
        tries: how often each is tried.
    """

    times: int = 1
    tries: int = 20

    def __call__(self, rng: RandomState, host: Host, foreign: Foreign) -> SyntheticAnomaly:
        """Make all of them; where one finds no room, nothing changes and the mask is empty."""
        empty = np.zeros(host.shape, dtype=np.float32)
        made = nothing = SyntheticAnomaly(host.image.copy(), empty > 0, empty, 0, [], 0.0)
        for _ in range(self.times):
            one = self._apart(rng, Host(made.image, host.spacing, host.body), foreign, made.boxes)
            if one is None:
                return nothing
            made = SyntheticAnomaly(
                one.image,
                made.mask | one.mask,
                np.maximum(made.target, one.target),
                made.regions + 1,
                made.boxes + one.boxes,
                max(made.factor, one.factor),
            )
        return made

    def _apart(
        self, rng: RandomState, host: Host, foreign: Foreign, taken: list[list[list[int]]]
    ) -> SyntheticAnomaly | None:
        for _ in range(self.tries):
            one = super().__call__(rng, host, foreign)
            if one.regions and not any(_touch(box, other) for box in one.boxes for other in taken):
                return one
        return None


def _touch(box: list[list[int]], other: list[list[int]]) -> bool:
    return all(first <= end and start <= last for (first, last), (start, end) in zip(box, other, strict=True))


class OwnElsewhere(ForeignElsewhere):
    """Any place of the same scan, turned and scaled; arguments as of `ForeignElsewhere`."""

    takes_foreign = False

    def __call__(self, rng: RandomState, host: Host, region: Region, foreign: Foreign) -> NDArray[np.float32] | None:
        return super().__call__(rng, host, region, lambda: host.image)


def medmix(patches: int, foreign: bool = True) -> Recipe:
    """So many patches of another scan, turned, scaled, brightened and noisy, with soft edges, after MedMix.

    Of the paper (Tian et al., MedIA 2023) the idea alone is known: patches are cut, changed and pasted, and their
    number is the class. The sizes are ours.

    Args:
        patches: how many, at least 1.
        foreign: False takes them from other places of the same scan, as slices of volumes need.
    """
    if patches < 1:
        raise ValueError(f"patches must be at least 1, got {patches}.")
    shape = SoftPatch(AreaCuboid(Uniform(0.01, 0.06), LogUniform(1 / 3, 3)), 6 / 256, Uniform(1 / 256, 3 / 256))
    region = PlacedRegion(shape, whole=True)
    source = (ForeignElsewhere if foreign else OwnElsewhere)(Uniform(0.7, 1.3), degrees=45, overlap=0.5)
    contents: list[ContentTransform] = [Gamma(LogUniform(0.5, 2)), AddNoise(Uniform(0, 0.05))]
    return SeparateRecipe(f"medmix_{patches}", region, Paste(), source, contents, times=patches)

"""Regions that are drawn again until there is something of them."""

from __future__ import annotations

from numpy.random import RandomState

from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.regions import RegionSampler

__all__ = ["FoundRegion"]


class FoundRegion:
    """Another region, drawn anew where nothing was found, e.g. where two others do not meet.

    Args:
        region: the other one.
        least: voxels that must take part.
        tries: how often it is drawn.
    """

    def __init__(self, region: RegionSampler, least: int = 1, tries: int = 20) -> None:
        if tries < 1:
            raise ValueError(f"tries must be at least 1, got {tries}.")
        self.region, self.least, self.tries = region, least, tries

    def __call__(self, rng: RandomState, host: Host) -> Region | None:
        for _ in range(self.tries):
            region = self.region(rng, host)
            if region is not None and int(region.inside.sum()) >= self.least:
                return region
        return None

"""A way to make an anomaly, put together from parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from medad_plugins.errors import InputError
from medad_plugins.synthesis.blenders import Blender
from medad_plugins.synthesis.contents import ContentTransform
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.labellers import Binary, Labeller
from medad_plugins.synthesis.regions import RegionSampler
from medad_plugins.synthesis.sizes import Sampler
from medad_plugins.synthesis.sources import Foreign, Source

__all__ = ["Recipe", "SyntheticAnomaly"]


@dataclass(frozen=True)
class SyntheticAnomaly:
    """A scan with a synthetic anomaly.

    Attributes:
        image: ``(C, *spatial)``, equal to the host's wherever ``mask`` is false.
        mask: ``(*spatial)``, where it differs by more than the tolerance.
        target: ``(*spatial)``, 0..1, what a network is to say.
        regions: how many regions changed something.
        boxes: first and last-plus-one voxel along each axis, of these regions.
        factor: largest share of what is foreign, 0..1.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    target: NDArray[np.float32]
    regions: int
    boxes: list[list[list[int]]]
    factor: float


@dataclass(frozen=True)
class Recipe:
    """Where, with what, how blended and how labelled: a published synthesis is a choice of these parts.

    The parts are plain callables without state that draw from the random state they are given; a third party's work
    the same way.

    Args:
        name: of the recipe, for records.
        region: draws where.
        blender: makes the new values.
        source: gives the content; None for blenders that change the scan itself.
        contents: changes of the content, in order.
        labeller: makes the target.
        count: draws how many regions; None makes one.
        tolerance: mean absolute change, on the image's scale, above which a voxel counts as changed; what stays below
            is put back, so that image and mask agree exactly.
        weight: how often it is chosen among others, beside their weights.

    Example:
        >>> from medad_plugins.synthesis import Ball, Host, Paste, PlacedRegion, SameElsewhere
        >>> recipe = Recipe("ball", PlacedRegion(Ball(), whole=True), Paste(), SameElsewhere())
        >>> rng = np.random.RandomState(0)
        >>> host = Host(rng.rand(1, 32, 32).astype(np.float32), spacing=(1.0, 1.0))
        >>> made = recipe(rng, host, foreign=None)
        >>> made.regions, bool((made.mask == (made.image != host.image)[0]).all())
        (1, True)
    """

    name: str
    region: RegionSampler
    blender: Blender
    source: Source | None = None
    contents: Sequence[ContentTransform] = ()
    labeller: Labeller = field(default_factory=Binary)
    count: Sampler | None = None
    tolerance: float = 1e-3
    weight: float = 1.0

    @property
    def takes_foreign(self) -> bool:
        """Whether it needs other scans."""
        return self.source is not None and getattr(self.source, "takes_foreign", True)

    def __call__(self, rng: RandomState, host: Host, foreign: Foreign) -> SyntheticAnomaly:
        """Make an anomaly in the host; where no region can be found, nothing changes and the mask is empty."""
        image = host.image.copy()
        mask = np.zeros(host.shape, dtype=bool)
        target = np.zeros(host.shape, dtype=np.float32)
        boxes: list[list[list[int]]] = []
        largest = 0.0
        for _ in range(1 if self.count is None else int(self.count(rng))):
            current = Host(image, host.spacing, host.body)
            region = self.region(rng, current)
            if region is None:
                continue
            region = region.grown(1, host.shape)  # blenders that solve for a seam need its outer side
            blended = self._blend(rng, current, region, foreign)
            if blended is None:
                continue
            values, factor = blended
            box: tuple[Any, ...] = (slice(None), *region.box)
            difference = np.abs(values - image[box]).mean(0)
            changed = difference > self.tolerance
            if host.body is not None:
                changed &= host.body[region.box]
            if not changed.any():
                continue
            labelled = self._labelled(difference, changed, factor)
            image[box] = np.where(changed, values, image[box])
            mask[region.box] |= changed
            target[region.box] = np.maximum(target[region.box], labelled)
            boxes.append([[part.start, part.stop] for part in region.box])
            largest = max(largest, factor)
        return SyntheticAnomaly(image, mask, target, len(boxes), boxes, largest)

    def _labelled(
        self, difference: NDArray[np.float32], changed: NDArray[np.bool_], factor: float
    ) -> NDArray[np.float32]:
        labelled = self.labeller(difference, changed, factor)
        if not (labelled.min() >= 0 and labelled.max() <= 1):
            raise InputError(
                f"the labels of the recipe {self.name} leave 0..1",
                where=type(self.labeller).__name__,
                found=f"{labelled.min():g} to {labelled.max():g}",
                todo="let the labeller give shares",
            )
        # a label where nothing can be seen would reveal the recipe's box, which no network can find
        return np.where(changed, labelled, 0).astype(np.float32)

    def _blend(
        self, rng: RandomState, host: Host, region: Region, foreign: Foreign
    ) -> tuple[NDArray[np.float32], float] | None:
        content = None
        if self.source is not None:
            content = self.source(rng, host, region, foreign)
            if content is None:
                return None
            own = host.image[(slice(None), *region.box)]
            for change in self.contents:
                content = change(rng, content, own)
        return self.blender(rng, host, region, content)

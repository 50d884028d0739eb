"""What fills an anomaly's region: other places of the scan, other scans, or nothing of either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray
from scipy import ndimage

from medad_plugins.errors import InputError
from medad_plugins.synthesis.host import Host, Region
from medad_plugins.synthesis.rotation import random_rotation
from medad_plugins.synthesis.sizes import Sampler, Uniform

__all__ = [
    "ForeignElsewhere",
    "ForeignHere",
    "NoiseContent",
    "SameElsewhere",
    "Source",
    "SourcePool",
]


class SourcePool:
    """Other normal scans to take content from, drawn by number and never the host itself.

    Args:
        dataset: preprocessed cases with an image and a ``case_id``, all of one shape, e.g. of
            `medad_plugins.data.cached_dataset`.
        key: of the image.

    Raises:
        InputError: if there are fewer than two cases.
    """

    def __init__(self, dataset: Sequence[Any], key: str = "image") -> None:
        if len(dataset) < 2:
            raise InputError(
                "anomalies from other scans need other scans",
                where="source_pool",
                expected="at least 2 normal cases",
                found=len(dataset),
                todo="add normal cases, or choose a recipe that needs none",
            )
        self.dataset, self.key = dataset, key

    def draw(self, rng: RandomState, host_id: str | None) -> tuple[str, NDArray[np.float32]]:
        """A case other than the host's: its id and its image ``(C, *spatial)``."""
        index = int(rng.randint(len(self.dataset)))
        case = self.dataset[index]
        if host_id is not None and str(case.get("case_id")) == host_id:
            case = self.dataset[(index + 1 + int(rng.randint(len(self.dataset) - 1))) % len(self.dataset)]
        return str(case.get("case_id", index)), np.asarray(case[self.key], dtype=np.float32)


class Foreign(Protocol):
    """Draws another scan's image for this anomaly."""

    def __call__(self) -> NDArray[np.float32]: ...


class Source(Protocol):
    """Content ``(C, *box)`` for a region; None where no place for it could be found.

    One that never needs another scan says so by an attribute ``takes_foreign = False``.
    """

    def __call__(
        self, rng: RandomState, host: Host, region: Region, foreign: Foreign
    ) -> NDArray[np.float32] | None: ...


class ForeignHere:
    """Another scan at the same place, as foreign patch interpolation has it.

    Args:
        among: so many scans are drawn, and the one that looks most like the host is taken; for scans that are not
            registered, where the same place of any other scan may be another organ.
    """

    def __init__(self, among: int = 1) -> None:
        if among < 1:
            raise InputError("a foreign scan is drawn among at least one", where="among", found=among)
        self.among = among

    def __call__(self, rng: RandomState, host: Host, region: Region, foreign: Foreign) -> NDArray[np.float32] | None:
        drawn = [foreign() for _ in range(self.among)]
        if self.among == 1:
            return drawn[0][(slice(None), *region.box)].copy()
        # about 32 places along the longest side are enough to tell how alike two scans are
        sparse = (slice(None), *(slice(None, None, max(1, max(host.shape) // 32)),) * host.spatial_dims)
        unlike = [float(np.abs(one[sparse] - host.image[sparse]).mean()) for one in drawn]
        return drawn[int(np.argmin(unlike))][(slice(None), *region.box)].copy()


def _cut(
    image: NDArray[np.float32], rng: RandomState, region: Region, scale: float, degrees: float
) -> NDArray[np.float32]:
    """A box of the region's size from anywhere in an image, turned and scaled about its centre, borders repeated."""
    dims = image.ndim - 1
    size = np.asarray(region.alpha.shape, dtype=float)
    edges = np.asarray(image.shape[1:], dtype=float)
    slack = np.maximum(edges - size / scale, 0) / 2
    middle = rng.uniform((edges - 1) / 2 - slack, (edges - 1) / 2 + slack)
    if scale == 1 and degrees == 0:
        start = np.clip(np.round(middle - (size - 1) / 2), 0, edges - size).astype(int)
        box = tuple(slice(int(a), int(a + n)) for a, n in zip(start, size))
        return image[(slice(None), *box)].copy()
    matrix = random_rotation(rng, dims, degrees) / scale
    offset = middle - matrix @ ((size - 1) / 2)
    shape = region.alpha.shape
    cut = [ndimage.affine_transform(c, matrix, offset, shape, order=1, mode="nearest") for c in image]
    return np.stack(cut).astype(np.float32)


class SameElsewhere:
    """Another place of the same scan, as CutPaste has it."""

    takes_foreign = False

    def __call__(self, rng: RandomState, host: Host, region: Region, foreign: Foreign) -> NDArray[np.float32] | None:
        return _cut(host.image, rng, region, 1.0, 0.0)


class ForeignElsewhere:
    """Any place of another scan, turned and scaled.

    Args:
        scale: draws how many times larger the content becomes.
        degrees: largest rotation in each plane.
        overlap: least share of the region that the content must fill with a body: intensities above ``background``.
        background: highest intensity of what is no body.
        tries: how many places are tried.

    Reference:
        Schlueter et al., "Natural Synthetic Anomalies", ECCV 2022; Baugh et al., MICCAI 2023.
    """

    def __init__(
        self,
        scale: Sampler = Uniform(0.7, 1.3),
        degrees: float = 0.0,
        overlap: float = 0.0,
        background: float = 0.05,
        tries: int = 20,
    ) -> None:
        self.scale, self.degrees, self.overlap = scale, degrees, overlap
        self.background, self.tries = background, tries

    def __call__(self, rng: RandomState, host: Host, region: Region, foreign: Foreign) -> NDArray[np.float32] | None:
        image = foreign()
        for _ in range(self.tries):
            content = _cut(image, rng, region, self.scale(rng), self.degrees)
            if float((content.mean(0)[region.inside] > self.background).mean()) >= self.overlap:
                return content
        return None


class NoiseContent:
    """Independent normal noise.

    Args:
        mean: draws its mean.
        sd: draws its standard deviation.
    """

    takes_foreign = False

    def __init__(self, mean: Sampler = Uniform(0, 1), sd: Sampler = Uniform(0.05, 0.3)) -> None:
        self.mean, self.sd = mean, sd

    def __call__(self, rng: RandomState, host: Host, region: Region, foreign: Foreign) -> NDArray[np.float32] | None:
        shape = (len(host.image), *region.alpha.shape)
        return rng.normal(self.mean(rng), self.sd(rng), shape).astype(np.float32)

"""Regions drawn until there is something of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState

from medad_plugins.synthesis import FoundRegion, Host, Region, published

HOST = Host(np.zeros((1, 64, 64), dtype=np.float32), (1.0, 1.0))


class Shy:
    """Gives regions of the listed numbers of voxels, None for 0."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = list(sizes)

    def __call__(self, rng: RandomState, host: Host) -> Region | None:
        size = self.sizes.pop(0)
        return Region((0, 0), np.ones((1, size), dtype=np.float32)) if size else None


def test_the_first_that_is_large_enough() -> None:
    shy = Shy(0, 2, 0, 5, 7)
    found = FoundRegion(shy, least=4)(RandomState(0), HOST)
    assert found is not None and found.alpha.shape == (1, 5) and shy.sizes == [7]
    assert FoundRegion(Shy(0, 0, 9), tries=2)(RandomState(0), HOST) is None
    with pytest.raises(ValueError, match="tries must be at least 1"):
        FoundRegion(Shy(), tries=0)


@pytest.mark.parametrize("texture", ["foreign", "noise"])
def test_glass_puts_half_opaque_texture_into_noise(texture: str) -> None:
    recipe = published.glass(texture)
    assert recipe.takes_foreign == (texture == "foreign")
    images = np.random.RandomState(0).rand(2, 1, 64, 64).astype(np.float32)
    host, shares = Host(images[0], (1.0, 1.0)), []
    for seed in range(40):
        made = recipe(RandomState(seed), host, lambda: images[1])
        assert made.regions == 1 and 0.2 <= made.factor <= 0.8
        assert np.array_equal((made.image != host.image)[0], made.mask)
        shares.append(float(made.mask.mean()))
    assert 0 < min(shares) < 0.02 < max(shares) < 0.25, "intersections and unions of masks of up to a tenth"
    with pytest.raises(ValueError, match="texture must be"):
        published.glass("cloth")

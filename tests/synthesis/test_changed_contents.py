"""Changes of foreign content that make it look like nothing of the scan."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState
from scipy import ndimage

from medad_plugins.synthesis import Host, Invert, NoiseRegion, Posterise, Sharpen, Solarise, SomeChanges, Uniform
from medad_plugins.synthesis.published import noise_blend
from synthesis.textured_scans import scan

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


@BOTH
def test_inverted_content_keeps_its_range(spatial_dims: int) -> None:
    content = scan(spatial_dims, 1) * 0.5 + 0.2
    found = Invert()(RandomState(0), content, content)
    np.testing.assert_allclose(found, 0.9 - content, atol=1e-6)


@BOTH
def test_solarised_content_is_turned_over_at_the_threshold(spatial_dims: int) -> None:
    content = scan(spatial_dims, 1)
    found = Solarise(Uniform(0.4, 0.4))(RandomState(0), content, content)
    np.testing.assert_array_equal(found[content <= 0.4], content[content <= 0.4])
    np.testing.assert_allclose(found[content > 0.4], 1.4 - content[content > 0.4], atol=1e-6)


@BOTH
def test_posterised_content_has_few_levels(spatial_dims: int) -> None:
    content = scan(spatial_dims, 1)
    found = Posterise(Uniform(3, 3))(RandomState(0), content, content)
    np.testing.assert_allclose(np.unique(found), [0, 0.5, 1], atol=1e-6)
    assert np.abs(found - content).max() <= 0.25 + 1e-6
    flat = np.full_like(content, 0.3)
    np.testing.assert_allclose(Posterise()(RandomState(0), flat, flat), flat)


@BOTH
def test_sharpened_content_has_its_details_twice(spatial_dims: int) -> None:
    content = scan(spatial_dims, 1) * 0.2 + 0.4
    found = Sharpen(Uniform(1, 1))(RandomState(0), content, content)
    expected = 2 * content[0] - ndimage.gaussian_filter(content[0], 1.0)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_so_many_changes_as_requested_are_drawn() -> None:
    class Doubled:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        def __call__(self, rng: RandomState, content: np.ndarray, own: np.ndarray) -> np.ndarray:
            return content * self.factor

    one = np.ones((1, 2, 2), dtype=np.float32)
    changes = SomeChanges([Doubled(2), Doubled(3), Doubled(5)], 2)
    seen = {float(changes(RandomState(seed), one, one)[0, 0, 0]) for seed in range(30)}
    assert seen == {6.0, 10.0, 15.0}
    with pytest.raises(ValueError, match=r"count must lie in 0\.\.1, got 2"):
        SomeChanges([Invert()], 2)


@BOTH
def test_draem_blends_changed_content_by_its_opacity(spatial_dims: int) -> None:
    host, other = Host(scan(spatial_dims, 0), (1.0,) * spatial_dims), scan(spatial_dims, 1)
    recipe = noise_blend((0.5, 0.5), changes=3, largest_octave=2)
    assert isinstance(recipe.region, NoiseRegion) and recipe.region.largest_octave == 2
    results = [recipe(RandomState(seed), host, lambda: other) for seed in (0, 0, 1)]
    first, again, different = (made.image for made in results)
    assert np.array_equal(first, again) and not np.array_equal(first, different)
    mask = results[0].mask
    assert 0 < mask.mean() < 0.11 and np.array_equal(results[0].target, mask.astype(np.float32))
    np.testing.assert_array_equal(first[:, ~mask], host.image[:, ~mask])
    # half of what is there is the scan's own
    foreign = 2 * first[:, mask] - host.image[:, mask]
    assert foreign.min() > -0.05 and foreign.max() < 1.05

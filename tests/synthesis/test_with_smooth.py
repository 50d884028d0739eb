"""Smooth regions among other anomalies: how many in a scan, and how much they change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState

from medad_plugins.errors import InputError
from medad_plugins.synthesis import Host, SmoothIntensity
from medad_plugins.synthesis.labellers import Logistic
from medad_plugins.synthesis.published import circle, fpi, with_smooth


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_more_and_stronger_regions_change_more(spatial_dims: int) -> None:
    host = Host(np.full((1, *[24] * spatial_dims), 0.5, np.float32), (1.0,) * spatial_dims)
    host.image[0].flat[:2] = 0, 1  # the range that changes are cut to
    few, many = with_smooth([fpi()])[-1], with_smooth([fpi()], 0.5, (0.3, 0.4), (0.2, 0.5), 3)[-1]
    counts, changes = [], []
    for recipe in (few, many):
        made = [recipe(RandomState(seed), host, lambda: host.image) for seed in range(12)]
        counts.append([one.regions for one in made])
        changes.append(np.mean([np.abs(one.image - host.image).sum() for one in made]))
    assert set(counts[0]) == {1} and set(counts[1]) == {1, 2, 3}
    assert changes[1] > 2 * changes[0]


def test_it_takes_the_share_and_the_label_of_the_others() -> None:
    other, added = with_smooth([fpi()], 0.25, (0.2, 0.3))
    assert (other.weight, added.weight) == (0.75, 0.25)
    assert isinstance(added.labeller, Logistic) and isinstance(added.blender, SmoothIntensity)
    assert added.count is None
    assert with_smooth([fpi()], 0)[0].name == "fpi" and len(with_smooth([fpi()], 1)) == 1
    with pytest.raises(InputError, match="no such share"):
        with_smooth([fpi()], 1.5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_seamless_ball_is_not_asked_for_where_nothing_can_be_seen(spatial_dims: int) -> None:
    """Blending changes the whole box around a ball a little: a label there is one that no network can learn."""
    size = [32] * spatial_dims
    host = Host(RandomState(0).rand(1, *size).astype(np.float32), (1.0,) * spatial_dims)
    unseen = 0
    for seed in range(6):
        made = circle(3)(RandomState(seed), host, lambda: RandomState(9).rand(1, *size).astype(np.float32))
        change = np.abs(made.image - host.image)[0]
        faint = made.mask & (change < 2 / 255)
        unseen += int(faint.sum())
        # a later ball may bring back what an earlier one changed
        assert made.regions > 1 or not faint.any() or made.target[faint].max() < 0.3
        assert made.target[change > 10 / 255].min(initial=1) > 0.9
    assert unseen > 0

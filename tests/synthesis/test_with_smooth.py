"""Smooth regions among other anomalies: how many in a scan, and how much they change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import RandomState

from medad_plugins.errors import InputError
from medad_plugins.synthesis import Host, SmoothIntensity
from medad_plugins.synthesis.labellers import Logistic
from medad_plugins.synthesis.published import fpi, with_smooth


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

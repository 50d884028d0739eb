"""Means of feature maps, location by location."""

from __future__ import annotations

import copy

import pytest
import torch

from medad_plugins.errors import InputError
from medad_plugins.networks import LocationMeans


@pytest.mark.parametrize("grid", [(4, 5), (3, 4, 5)])
def test_the_mean_of_all_batches_and_of_two_halves(grid: tuple[int, ...]) -> None:
    features = torch.rand(7, 3, *grid)
    halves = [LocationMeans(len(grid)) for _ in range(2)]
    halves[0].collect(features[:2])
    halves[1].collect(features[2:4])
    halves[1].collect(features[4:])
    whole = copy.deepcopy(halves[0])
    for name, value in whole.merge_buffers([dict(half.named_buffers()) for half in halves]).items():
        setattr(whole, name, value)
    whole.fit()
    torch.testing.assert_close(whole(list(grid)), features.mean(0, keepdim=True))
    assert whole.total.numel() == 0
    finer = [2 * edge for edge in grid]
    assert whole(finer).shape == (1, 3, *finer)
    torch.testing.assert_close(whole(finer).mean(), features.mean(), rtol=1e-3, atol=1e-3)
    # a second fit begins anew
    whole.collect(features[:1])
    whole.fit()
    assert int(whole.count) == 1
    torch.testing.assert_close(whole(list(grid)), features[:1])


def test_nothing_seen() -> None:
    means = LocationMeans()
    with pytest.raises(RuntimeError, match="have not been fitted"):
        means([2, 2])
    with pytest.raises(InputError, match="a mean needs normal scans"):
        means.fit()

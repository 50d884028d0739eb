"""Pooled features of a frozen backbone with mean 0 and deviation 1."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.errors import InputError
from medad_plugins.networks.families.pooled_features import PooledFeatures
from medad_plugins.networks.fitted.standardisation import Standardisation


@torch.no_grad()
def test_mean_and_deviation_are_those_of_all_batches() -> None:
    vectors = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 20.0, 0.1, 0.0]) + 7
    part = Standardisation(4)
    assert torch.equal(part(vectors), vectors), "before it is fitted"
    for batch in vectors.split(13):
        part.collect(batch)
    part.fit()
    found = part(vectors)
    torch.testing.assert_close(found[:, :3].mean(0), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(found[:, :3].std(0, correction=0), torch.ones(3), rtol=1e-4, atol=0)
    assert bool((found[:, 3] == 0).all()), "what never changes stays at its own scale"
    # two halves add up to what one process sees
    halves = [Standardisation(4), Standardisation(4)]
    for half, rows in zip(halves, vectors.split(30), strict=True):
        half.collect(rows)
    merged = Standardisation(4)
    merged.load_state_dict(halves[0].merge_buffers([half.state_dict() for half in halves]), strict=False)
    merged.fit()
    torch.testing.assert_close(merged(vectors), found)
    with pytest.raises(InputError, match="at least two normal scans"):
        Standardisation(4).fit()


@pytest.mark.parametrize("size", [(32, 24), (16, 16, 16)])
@torch.no_grad()
def test_features_are_means_of_maps(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    part = PooledFeatures(len(size), 1, "resnet10", "none", (1, 2)).train()
    image = torch.rand(3, 1, *size)
    maps = part.taps(image)
    assert part.size == sum(each.shape[1] for each in maps)
    expected = torch.cat([each.flatten(2).mean(2) for each in maps], 1)
    torch.testing.assert_close(part(image), expected)
    assert not any(parameter.requires_grad for parameter in part.parameters())

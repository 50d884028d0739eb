"""Quantiles of normal maps as the ends of a scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.errors import InputError
from medad_plugins.scorers import QuantileRange


def test_quantiles_become_zero_and_a_tenth() -> None:
    maps = torch.rand(6, 1, 20, 20, generator=torch.Generator().manual_seed(0)).square()
    scale = QuantileRange()
    for part in maps.split(2):
        scale.collect(part)
    scale.fit()
    low, high = np.quantile(maps.numpy(), [0.9, 0.995])
    torch.testing.assert_close(scale(torch.tensor([low, high]).float()), torch.tensor([0.0, 0.1]), atol=2e-3, rtol=0)
    assert scale.values.numel() == 0, "nothing of the scans is kept"
    thin = QuantileRange(kept=100)
    thin.collect(maps)
    assert thin.values.numel() == 600
    thin.fit()
    assert float(thin.start) == pytest.approx(low, abs=0.02)


def test_halves_that_are_merged_are_the_whole() -> None:
    maps = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, first, second, merged = (QuantileRange() for _ in range(4))
    whole.collect(maps)
    first.collect(maps[:2])
    second.collect(maps[2:])
    merged.values = merged.merge_buffers([dict(first.named_buffers()), dict(second.named_buffers())])["values"]
    whole.fit()
    merged.fit()
    assert torch.equal(whole.start, merged.start) and torch.equal(whole.span, merged.span)


def test_maps_that_are_all_alike_are_refused() -> None:
    scale = QuantileRange()
    scale.collect(torch.ones(2, 1, 4, 4))
    with pytest.raises(InputError, match="all alike"):
        scale.fit()

"""RealNet's loss: classes of the pixels and rebuilt features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.methods.realnet import RealNetLoss


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_it_is_cross_entropy_plus_the_mean_squared_error_of_each_level(spatial_dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, *[4] * spatial_dims, generator=generator)
    mask = (torch.rand(2, 1, *[4] * spatial_dims, generator=generator) > 0.7).float()
    rebuilt = [torch.rand(2, 3, *[edge] * spatial_dims, generator=generator) for edge in (4, 2)]
    clean = [torch.rand(level.shape, generator=generator) for level in rebuilt]
    entropy = 0.0
    for place in np.ndindex(2, *[4] * spatial_dims):
        values = [float(logits[(place[0], k, *place[1:])]) for k in (0, 1)]
        label = int(mask[(place[0], 0, *place[1:])])
        entropy -= values[label] - np.log(np.exp(values).sum())
    entropy /= 2 * 4**spatial_dims
    errors = sum(float(((a - b) ** 2).mean()) for a, b in zip(rebuilt, clean, strict=True))
    assert float(RealNetLoss()((logits, rebuilt, clean), mask)) == pytest.approx(entropy + errors, rel=1e-5)
    assert float(RealNetLoss(0.5)((logits, rebuilt, clean), mask)) == pytest.approx(entropy + 0.5 * errors, rel=1e-5)
    halves = [level.bfloat16() for level in rebuilt]
    assert RealNetLoss()((logits.bfloat16(), halves, clean), mask).dtype == torch.float32

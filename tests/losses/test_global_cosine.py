"""The global cosine loss by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.losses import GlobalCosineLoss


def _features(spatial_dims: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 2 * k, *[8 // k] * spatial_dims, generator=generator) for k in (1, 2, 4)]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_loss(spatial_dims: int) -> None:
    decoded, encoded = _features(spatial_dims, 0), _features(spatial_dims, 1)
    expected = 0.0
    for d, e in zip(decoded, encoded, strict=True):
        a, b = d.double().numpy().reshape(3, -1), e.double().numpy().reshape(3, -1)
        expected += 1 - np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    assert GlobalCosineLoss()((decoded, encoded)).item() == pytest.approx(expected, rel=1e-5)


def test_whole_maps_are_compared_not_locations() -> None:
    decoded = torch.tensor([[1.0, 1.0]]).reshape(1, 1, 1, 2)
    encoded = torch.tensor([[1.0, 3.0]]).reshape(1, 1, 1, 2)
    # location by location the angle is zero
    assert GlobalCosineLoss()(([decoded], [encoded])).item() == pytest.approx(1 - 4 / np.sqrt(20), rel=1e-5)


def test_scales_are_summed() -> None:
    decoded, encoded = _features(2, 0), _features(2, 1)
    single = [GlobalCosineLoss()(([d], [e])).item() for d, e in zip(decoded, encoded, strict=True)]
    assert GlobalCosineLoss()((decoded, encoded)).item() == pytest.approx(sum(single), rel=1e-6)


def test_the_gradient_stops_at_the_encoded_side() -> None:
    decoded, encoded = _features(2, 0), _features(2, 1)
    for feature in (*decoded, *encoded):
        feature.requires_grad_()
    GlobalCosineLoss()((decoded, encoded)).backward()
    assert all(d.grad is not None and float(d.grad.norm()) > 0 for d in decoded)
    assert all(e.grad is None for e in encoded)


def test_equal_angles_cost_nothing_and_half_precision_is_compared_in_float32() -> None:
    features = _features(2, 0)
    assert GlobalCosineLoss()(([7 * f for f in features], features)).item() == pytest.approx(0, abs=1e-6)
    halves = [f.bfloat16() for f in features]
    loss = GlobalCosineLoss()((halves, halves))
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(0, abs=1e-6)


def test_a_target_of_the_engine_is_not_used() -> None:
    features = (_features(2, 0), _features(2, 1))
    assert torch.equal(GlobalCosineLoss()(features, torch.rand(3)), GlobalCosineLoss()(features))

"""The local cosine loss by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.losses import LocalCosineLoss


def _features(spatial_dims: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, 2 * k, *[8 // k] * spatial_dims, generator=generator) for k in (1, 2, 4)]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_loss(spatial_dims: int) -> None:
    rebuilt, teacher = _features(spatial_dims, 0), _features(spatial_dims, 1)
    expected = 0.0
    for r, t in zip(rebuilt, teacher, strict=True):
        a, b = (x.double().flatten(2).numpy() for x in (r, t))
        cosines = [
            np.dot(a[i, :, p], b[i, :, p]) / np.linalg.norm(a[i, :, p]) / np.linalg.norm(b[i, :, p])
            for i in range(a.shape[0])
            for p in range(a.shape[2])
        ]
        expected += 1 - float(np.mean(cosines))
    assert LocalCosineLoss()((rebuilt, teacher)).item() == pytest.approx(expected, rel=1e-5)


def test_locations_are_compared_not_whole_maps() -> None:
    rebuilt = torch.tensor([[1.0, 1.0]]).reshape(1, 1, 1, 2)
    teacher = torch.tensor([[1.0, 3.0]]).reshape(1, 1, 1, 2)
    assert LocalCosineLoss()(([rebuilt], [teacher])).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_stops_at_the_teacher_and_a_target_is_not_used() -> None:
    rebuilt, teacher = _features(2, 0), _features(2, 1)
    for feature in (*rebuilt, *teacher):
        feature.requires_grad_()
    loss = LocalCosineLoss()((rebuilt, teacher), torch.rand(3))
    loss.backward()
    assert all(r.grad is not None and float(r.grad.norm()) > 0 for r in rebuilt)
    assert all(t.grad is None for t in teacher)
    halves = [f.detach().bfloat16() for f in rebuilt]
    assert LocalCosineLoss()((halves, halves)).dtype == torch.float32


def test_twice_is_the_squared_distance_of_unit_vectors() -> None:
    student, teacher = _features(2, 0), _features(2, 1)
    expected = 0.0
    for s, t in zip(student, teacher, strict=True):
        a, b = (np.moveaxis(x.double().numpy(), 1, -1).reshape(-1, x.shape[1]) for x in (s, t))
        pairs = zip(a, b, strict=True)
        expected += float(np.mean([((x / np.linalg.norm(x) - y / np.linalg.norm(y)) ** 2).sum() for x, y in pairs]))
    assert LocalCosineLoss(weight=2.0)((student, teacher)).item() == pytest.approx(expected, rel=1e-5)

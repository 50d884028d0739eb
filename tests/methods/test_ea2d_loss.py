"""The loss of two views by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.ea2d import ViewConsistencyLoss


def _pair(seed: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    features = [torch.rand(3, 2 * k, 8 // k, 8 // k, generator=generator) for k in (1, 2, 4, 1, 2, 4)]
    return features[:3], features[3:]


def _global_cosine(decoded: list[Tensor], encoded: list[Tensor]) -> float:
    total = 0.0
    for d, e in zip(decoded, encoded, strict=True):
        a, b = d.double().numpy().reshape(3, -1), e.double().numpy().reshape(3, -1)
        total += 1 - float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))
    return total


def test_half_of_each_view_and_half_of_the_consistency() -> None:
    pairs, one, other = [_pair(0), _pair(1)], torch.rand(3, 5), torch.rand(3, 5)
    a, b = one.double().numpy(), other.double().numpy()
    cosine = np.mean([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)])
    expected = 0.5 * _global_cosine(*pairs[0]) + 0.5 * _global_cosine(*pairs[1]) + 0.5 * (1 - cosine)
    assert ViewConsistencyLoss()((pairs, [one, other])).item() == pytest.approx(expected, rel=1e-5)
    heavy = ViewConsistencyLoss(weight=2.0)((pairs, [one, other])).item()
    assert heavy == pytest.approx(expected + 1.5 * (1 - cosine), rel=1e-5)


def test_the_gradient_goes_through_both_embeddings() -> None:
    one, other = torch.rand(3, 5).requires_grad_(), torch.rand(3, 5).requires_grad_()
    ViewConsistencyLoss()(([_pair(0), _pair(1)], [one, other])).backward()
    assert one.grad is not None and float(one.grad.norm()) > 0
    assert other.grad is not None and float(other.grad.norm()) > 0


def test_of_one_view_it_is_the_global_cosine_loss() -> None:
    loss = ViewConsistencyLoss()(([_pair(0)], [torch.rand(3, 5)]), torch.zeros(1))
    torch.testing.assert_close(loss, GlobalCosineLoss()(_pair(0)))

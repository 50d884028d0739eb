"""The losses of RD++ by loops, and why one of the public code's terms is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.losses import sinkhorn_divergence
from medad_plugins.methods.rd_plus_plus import RDPlusPlusLoss

NAMES = ("rebuilt", "clean", "noisy", "projected", "projected_noisy")


def _features(spatial_dims: int = 2, batch: int = 3, seed: int = 0) -> dict[str, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    features = {
        name: [torch.rand(batch, 4 * k, *[8 // k] * spatial_dims, generator=generator) for k in (1, 2, 4)]
        for name in NAMES
    }
    # projections have signs; the first scale's stays below the contrast's margin
    for name in ("projected", "projected_noisy"):
        features[name] = [value - (0.45 if k == 0 else 0.1) for k, value in enumerate(features[name])]
    return features


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.vdot(a, b) / np.sqrt(np.vdot(a, a) * np.vdot(b, b)))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _terms(features: dict[str, list[Tensor]]) -> tuple[float, float, float]:
    """Distillation, rebuilding and contrast, each summed over the scales."""
    distil = rebuild = contrast = 0.0
    for scale in range(3):
        rebuilt, clean, noisy, projected, projected_noisy = (
            features[name][scale].detach().double().numpy() for name in NAMES
        )
        cases = range(len(clean))
        distil += _mean([1 - _cosine(rebuilt[i], clean[i]) for i in cases])
        locations = [(i, *p) for i in cases for p in np.ndindex(*clean.shape[2:])]
        at = [(i, slice(None), *p) for i, *p in locations]
        rebuild += _mean([1 - _cosine(projected_noisy[p], projected[p]) for p in at])
        contrast += _mean([max(0.0, _cosine(noisy[i], projected[i]) - 0.5) for i in cases])
    return distil, rebuild, contrast


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("weight", [0.2, 1.0])
def test_loss(spatial_dims: int, weight: float) -> None:
    features = _features(spatial_dims)
    distil, rebuild, contrast = _terms(features)
    assert min(distil, rebuild, contrast) > 0.05
    expected = distil + weight * (0.01 * rebuild + 0.1 * contrast) / 1.11
    assert RDPlusPlusLoss(weight)(features, torch.rand(3)).item() == pytest.approx(expected, rel=1e-5)


def test_contrast_ends_at_the_margin() -> None:
    features = _features()
    features["projected"] = [-value for value in features["noisy"]]
    _, rebuild, contrast = _terms(features)
    assert contrast == 0
    distil = RDPlusPlusLoss(0.0)(features).item()
    assert RDPlusPlusLoss(1.0)(features).item() - distil == pytest.approx(0.01 * rebuild / 1.11, rel=1e-3)


def test_what_gets_a_gradient() -> None:
    features = _features()
    for values in features.values():
        for value in values:
            value.requires_grad_()
    RDPlusPlusLoss(transport_weight=1.0)(features).backward()
    assert all(value.grad is None for value in features["clean"]), "the teacher"
    for name in ("rebuilt", "projected", "projected_noisy"):
        assert all(value.grad is not None and float(value.grad.abs().sum()) > 0 for value in features[name])


def test_transport_between_a_batch_and_itself_in_another_order_is_nothing() -> None:
    """The public code's term: each case is one point, the batch a cloud, compared with its own permutation."""
    projected = _features(batch=6)["projected"][0].requires_grad_()
    points = 50 * projected.flatten(1).softmax(-1)
    order = torch.tensor([3, 5, 0, 1, 2, 4])
    term = sinkhorn_divergence(points[None], points[order][None])
    (gradient,) = torch.autograd.grad(term.sum(), projected, retain_graph=True)
    assert term.item() == pytest.approx(0, abs=1e-5)
    other = sinkhorn_divergence(points[None], points.detach()[order][None] + 0.1)
    (something,) = torch.autograd.grad(other.sum(), projected)
    assert other.item() > 0.1
    assert float(gradient.abs().max()) < 1e-4 * float(something.abs().max())


def test_transport_compares_the_locations_of_different_cases() -> None:
    torch.manual_seed(0)
    features = _features(batch=2)
    features["projected"] = [20 * value for value in features["projected"]]
    clouds = [value.flatten(2).transpose(1, 2).softmax(-1) for value in features["projected"]]
    full = sum(float(sinkhorn_divergence(cloud[:1], cloud[1:])) for cloud in clouds)
    without = RDPlusPlusLoss(1.0)(features).item()
    seeds = {}
    for seed in range(8):
        torch.manual_seed(seed)
        swapped = torch.randperm(2).tolist() == [1, 0]
        torch.manual_seed(seed)
        seeds[swapped] = RDPlusPlusLoss(1.0, transport_weight=1.0, points=64)(features).item() - without
    # a case may be its own partner
    assert seeds[False] == pytest.approx(0, abs=1e-5)
    assert seeds[True] == pytest.approx(full / 1.11, rel=0.02)
    equal = {**features, "projected": [value[:1].expand_as(value) for value in features["projected"]]}
    with_it, alone = RDPlusPlusLoss(1.0, 1.0)(equal).item(), RDPlusPlusLoss(1.0)(equal).item()
    assert with_it == pytest.approx(alone, abs=1e-5)


def test_half_precision_is_compared_in_float32() -> None:
    features = {name: [value.bfloat16() for value in values] for name, values in _features().items()}
    loss = RDPlusPlusLoss(transport_weight=1.0)(features)
    assert loss.dtype == torch.float32 and bool(torch.isfinite(loss))

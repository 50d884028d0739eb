"""Hard mining: the value of the global cosine loss, and the gradient of its hard locations, by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from medad_plugins.losses import GlobalCosineLoss
from medad_plugins.methods.recontrast import HardMinedCosineLoss


def _features(spatial_dims: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2 * k, *[8 // k] * spatial_dims, generator=generator) for k in (1, 2, 4)]


def _easy(decoded: NDArray[np.float64], encoded: NDArray[np.float64], hardness: float) -> NDArray[np.bool_]:
    """Which locations ``(B, *grid)`` lie below the mean and so many standard deviations of all of them."""
    distance = np.zeros((decoded.shape[0], *decoded.shape[2:]))
    for case, *where in np.ndindex(*distance.shape):
        a, b = decoded[(case, slice(None), *where)], encoded[(case, slice(None), *where)]
        distance[(case, *where)] = 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    spread = np.sqrt(((distance - distance.mean()) ** 2).sum() / (distance.size - 1))
    return np.asarray(distance < distance.mean() + hardness * spread)


def _gradient(decoded: NDArray[np.float64], encoded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of one minus the mean cosine of whole maps, by its formula."""
    gradient = np.zeros_like(decoded)
    for case, (a, b) in enumerate(zip(decoded, encoded, strict=True)):
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        cosine = (a * b).sum() / norms
        gradient[case] = -(b / norms - cosine * a / (a * a).sum()) / len(decoded)
    return gradient


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("hardness", "factor"), [(1.0, 0.0), (-0.5, 0.0), (0.3, 0.25)])
def test_easy_locations_do_not_teach(spatial_dims: int, hardness: float, factor: float) -> None:
    decoded, encoded = _features(spatial_dims, 0), _features(spatial_dims, 1)
    for feature in decoded:
        feature.requires_grad_()
    HardMinedCosineLoss(hardness, factor)((decoded, encoded)).backward()
    for d, e in zip(decoded, encoded, strict=True):
        a, b = d.detach().double().numpy(), e.double().numpy()
        easy = _easy(a, b, hardness)
        assert 0.05 < easy.mean() < 0.95
        expected = _gradient(a, b) * np.where(easy, factor, 1.0)[:, None]
        assert d.grad is not None
        np.testing.assert_allclose(d.grad.numpy(), expected, rtol=1e-3, atol=1e-6)


def test_the_value_is_that_of_the_global_cosine_loss_times_its_weight() -> None:
    features = (_features(2, 0), _features(2, 1))
    whole = GlobalCosineLoss()(features)
    torch.testing.assert_close(HardMinedCosineLoss()(features), whole)
    torch.testing.assert_close(HardMinedCosineLoss(weight=0.5)(features, torch.zeros(1)), whole / 2)


def test_what_has_passed_is_not_changed_in_place_and_the_target_learns_nothing() -> None:
    decoded, encoded = _features(2, 0), _features(2, 1)
    for feature in (*decoded, *encoded):
        feature.requires_grad_()
    grown = [2 * feature for feature in decoded]  # as a network's outputs, their own gradients are kept
    for feature in grown:
        feature.retain_grad()
    HardMinedCosineLoss()((grown, encoded)).backward()
    for d, g in zip(decoded, grown, strict=True):
        assert d.grad is not None and g.grad is not None
        torch.testing.assert_close(d.grad, 2 * g.grad)
    assert all(feature.grad is None for feature in encoded)


def test_hardness_can_be_set_and_a_low_one_lets_all_through() -> None:
    gradients = []
    for loss in (HardMinedCosineLoss(), GlobalCosineLoss()):
        if isinstance(loss, HardMinedCosineLoss):
            loss.set_hardness(-100.0)
        decoded = [feature.requires_grad_() for feature in _features(2, 0)]
        loss((decoded, _features(2, 1))).backward()
        gradients.append([feature.grad for feature in decoded])
    torch.testing.assert_close(*gradients)


def test_half_precision() -> None:
    decoded = [feature.bfloat16().requires_grad_() for feature in _features(2, 0)]
    loss = HardMinedCosineLoss()((decoded, [feature.bfloat16() for feature in _features(2, 1)]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(d.grad is not None and d.grad.dtype == torch.bfloat16 for d in decoded)

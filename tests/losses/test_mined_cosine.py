"""Mined cosine losses: the value of the global cosine loss, and gradients weighted by location, by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from medad_plugins.losses import DistanceMinedCosineLoss, GlobalCosineLoss, MinedCosineLoss, ShareMinedCosineLoss


def _features(spatial_dims: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 2 * k, *[8 // k] * spatial_dims, generator=generator) for k in (1, 2)]


def _distances(decoded: NDArray[np.float64], encoded: NDArray[np.float64]) -> NDArray[np.float64]:
    """One minus the cosine at each location ``(B, *grid)``."""
    norms = np.linalg.norm(decoded, axis=1) * np.linalg.norm(encoded, axis=1)
    return np.asarray(1 - (decoded * encoded).sum(1) / norms)


def _gradient(decoded: NDArray[np.float64], encoded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gradient of one minus the mean cosine of whole maps, by its formula."""
    gradient = np.zeros_like(decoded)
    for case, (a, b) in enumerate(zip(decoded, encoded, strict=True)):
        norms = np.linalg.norm(a) * np.linalg.norm(b)
        cosine = (a * b).sum() / norms
        gradient[case] = -(b / norms - cosine * a / (a * a).sum()) / len(decoded)
    return gradient


def _by_share(distance: NDArray[np.float64], share: float, factor: float) -> NDArray[np.float64]:
    """One for the hard locations, those from the last on that are not among the easy share."""
    order = np.sort(distance.ravel())[::-1]
    hard = max(1, int(distance.size * (1 - share)))
    return np.where(distance >= order[hard - 1] - 1e-9, 1.0, factor)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(
    "loss", [ShareMinedCosineLoss(0.7), ShareMinedCosineLoss(0.25, 0.5), DistanceMinedCosineLoss(3.0)]
)
def test_gradients_are_weighted_by_location(spatial_dims: int, loss: MinedCosineLoss) -> None:
    decoded, encoded = _features(spatial_dims, 0), _features(spatial_dims, 1)
    for feature in decoded:
        feature.requires_grad_()
    loss((decoded, encoded)).backward()
    for d, e in zip(decoded, encoded, strict=True):
        a, b = d.detach().double().numpy(), e.double().numpy()
        distance = _distances(a, b)
        if isinstance(loss, ShareMinedCosineLoss):
            weights = _by_share(distance, loss.share, loss.easy_factor)
            assert (weights < 1).mean() == pytest.approx(loss.share, abs=0.03)
        else:
            weights = (distance / distance.mean()) ** 3
        assert d.grad is not None
        # the mean over two scales
        np.testing.assert_allclose(d.grad.numpy(), _gradient(a, b) * weights[:, None] / 2, rtol=2e-3, atol=1e-6)


def test_the_value_is_the_mean_over_scales_times_the_weight() -> None:
    features = (_features(2, 0), _features(2, 1))
    whole = GlobalCosineLoss()(features)
    torch.testing.assert_close(ShareMinedCosineLoss()(features), whole / 2)
    torch.testing.assert_close(DistanceMinedCosineLoss(weight=3.0)(features, torch.zeros(1)), whole * 1.5)


def test_a_share_of_nothing_lets_all_through_and_one_of_all_leaves_the_hardest() -> None:
    loss, distance = ShareMinedCosineLoss(0.0), torch.rand(2, 4, 4)
    assert bool((loss.location_weights(distance) == 1).all())
    loss.set_share(1.0)
    weights = loss.location_weights(distance)
    assert int((weights == 1).sum()) == 1 and float(weights.flatten()[distance.argmax()]) == 1
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1.5"):
        loss.set_share(1.5)


def test_what_is_rebuilt_exactly_gives_finite_gradients() -> None:
    decoded = [feature.requires_grad_() for feature in _features(2, 0)]
    DistanceMinedCosineLoss()((decoded, [feature.detach().clone() for feature in decoded])).backward()
    assert all(d.grad is not None and bool(torch.isfinite(d.grad).all()) for d in decoded)


def test_the_base_says_that_it_mines_nothing() -> None:
    with pytest.raises(TypeError, match="does not say how much locations count"):
        MinedCosineLoss()((_features(2, 0), _features(2, 1)))

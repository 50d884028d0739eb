"""CutPaste's network by its paper: pooled unit features, Ledoit-Wolf distances, and a map that adds up to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks import PretextClassifier

NORMAL = 6


def _scans(*size: int, batch: int = NORMAL, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(spatial_dims: int = 2, **arguments: object) -> PretextClassifier:
    torch.manual_seed(0)
    values = {"stages": 3, "head_layers": 1, "hidden": 16, "sigma": 0.0, **arguments}
    network = PretextClassifier(spatial_dims, 1, "resnet10", "none", **values)  # type: ignore[arg-type]
    vary_norms(network)
    return network


def _fitted(*size: int, **arguments: object) -> PretextClassifier:
    network = _network(len(size), **arguments)
    for batch in _scans(*size).split(4):
        network.collect(batch)
    network.fit()
    return network.eval()


@torch.no_grad()
def _unit_features(network: PretextClassifier, image: Tensor) -> np.ndarray:
    """``(B, D, *grid)`` over the length of the mean vector, case by case."""
    features = [network.eval().encoder(one[None])[-1][0].double().numpy() for one in image]
    return np.stack([one / np.linalg.norm(one.reshape(len(one), -1).mean(1)) for one in features])


def _distances(normal: np.ndarray, others: np.ndarray) -> np.ndarray:
    pooled = [part.reshape(*part.shape[:2], -1).mean(2) for part in (normal, others)]
    assert np.allclose(np.linalg.norm(pooled[1], axis=1), 1)
    fitted = LedoitWolf().fit(pooled[0])
    distances: np.ndarray = np.sqrt(fitted.mahalanobis(pooled[1])) / pooled[1].shape[1]
    return distances


@pytest.mark.parametrize("reduction", ["mean", "max", 0.1])
@pytest.mark.parametrize(("size", "stages"), [((32, 48), 3), ((64, 40), 4), ((32, 16, 48), 3)])
def test_score_is_the_distance_whatever_the_reduction(
    size: tuple[int, ...], stages: int, reduction: str | float
) -> None:
    network, image = _fitted(*size, stages=stages, reduction=reduction, sigma=1.0), _scans(*size, batch=3, seed=1)
    expected = _distances(_unit_features(network, _scans(*size)), _unit_features(network, image))
    with torch.no_grad():
        anomaly_map = network(image)
    assert anomaly_map.shape == image.shape and anomaly_map.dtype == torch.float32
    np.testing.assert_allclose(network.pool(anomaly_map).numpy(), expected, rtol=2e-3)


@pytest.mark.parametrize("size", [(32, 48), (32, 32, 48)])
def test_the_map_is_what_each_location_adds(size: tuple[int, ...]) -> None:
    network, image = _fitted(*size), _scans(*size, batch=2, seed=1)
    normal, others = _unit_features(network, _scans(*size)), _unit_features(network, image)
    pooled = normal.reshape(*normal.shape[:2], -1).mean(2)
    precision = np.linalg.inv(LedoitWolf().fit(pooled).covariance_)
    usual, distances = normal.mean(0), _distances(normal, others)
    with torch.no_grad():
        found = network(image)
    for case, features in enumerate(others):
        unusual = features.reshape(len(features), -1).mean(1) - pooled.mean(0)
        # the distance's gradient; along it each location's own difference is what it adds
        direction = precision @ unusual / np.sqrt(unusual @ precision @ unusual)
        added = np.zeros(features.shape[1:])
        for place in np.ndindex(*added.shape):
            vector = features[(slice(None), *place)] - usual[(slice(None), *place)]
            added[place] = direction @ vector / len(direction)
        assert added.mean() == pytest.approx(distances[case], rel=1e-6), "shares add up to the distance"
        mode = "bilinear" if len(size) == 2 else "trilinear"
        fine = functional.interpolate(torch.from_numpy(added)[None, None].float(), size, mode=mode)[0]
        fine = fine + (distances[case] - fine.mean())
        torch.testing.assert_close(found[case], fine, rtol=5e-3, atol=5e-3 * float(fine.abs().max()))


def test_training_gives_a_logit_for_each_class_and_freezes_the_encoder_when_configured() -> None:
    network, image = _network(classes=4).train(), _scans(32, 32)
    for learns in (0.0, 1.0):
        network.zero_grad()
        network.set_encoder_learns(learns)
        logits = network(image)
        assert logits.shape == (NORMAL, 4)
        torch.nn.CrossEntropyLoss()(logits, torch.tensor([0, 1, 2, 3, 0, 1])).backward()
        has_gradient = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
        assert has_gradient == {"head", "classifier"} | ({"encoder"} if learns else set())


def test_the_heads_depth_and_widths() -> None:
    widths = [layer.out_features for layer in _network(head_layers=2).head if isinstance(layer, torch.nn.Linear)]
    assert widths == [16, 16, 128]


def test_collecting_uses_and_leaves_the_running_statistics() -> None:
    network = _network().train()
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    network.collect(_scans(32, 32))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.encoder.state_dict().items())
    expected = _unit_features(network, _scans(32, 32)).reshape(NORMAL, 256, -1).mean(2).sum(0)
    np.testing.assert_allclose(network.gaussian.sum_x.numpy(), expected, rtol=1e-4)


@torch.no_grad()
def test_half_precision_hardly_moves_the_score_and_keeps_the_map_in_single() -> None:
    network, image = _fitted(32, 48), _scans(32, 48, batch=3, seed=1)
    features = network._features(image)
    expected = network._explained(features, [32, 48])
    with torch.autocast("cpu", torch.bfloat16):
        network._features = lambda image: features  # type: ignore[method-assign]
        found = network(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_case_is_scored_alone_and_scripted_as_in_a_batch(tmp_path: Path) -> None:
    network, image = _fitted(32, 48), _scans(32, 48, batch=3, seed=1)
    together = network(image)
    torch.testing.assert_close(torch.jit.script(network)(image), together, rtol=1e-4, atol=1e-5)
    for case in range(3):
        torch.testing.assert_close(network(image[case : case + 1])[0], together[case], rtol=1e-3, atol=1e-4)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = _network().eval()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        other(image)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert torch.equal(other(image), together)


@pytest.mark.parametrize("wrong", [{"stages": 2}, {"classes": 1}, {"head_layers": -1}])
def test_wrong_arguments(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        _network(**wrong)

"""GLASS by its paper: the ascent and its bounds, both hypotheses, what learns, the map and the score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from plain_resnet import vary_norms
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.glass import GLASS, GlassLoss
from medad_plugins.methods.glass.network import normal_spread, truncated


def _glass(spatial_dims: int = 2, **arguments: Any) -> GLASS:
    torch.manual_seed(0)
    return GLASS(spatial_dims, 1, "resnet10", "none", 6, 5, **arguments)


def _scan(*size: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _joined(*size: int, batch: int = 2) -> Tensor:
    """Scans, others in place of the changed ones, and a mask in one corner of them."""
    mask = torch.zeros(batch, 1, *size)
    corner: tuple[slice, ...] = (slice(1), slice(1), *[slice(3)] * len(size))
    mask[corner] = 1
    return torch.cat([_scan(*size, batch=batch), _scan(*size, batch=batch, seed=1), mask], 1)


@torch.no_grad()
def _adapted(network: GLASS, image: Tensor) -> np.ndarray:
    """Adapted embeddings ``(B, P, D)``, location by location."""
    embedded = network.embedding(network.features(image)).double().numpy()
    weight, bias = network.projection.weight.double().numpy(), network.projection.bias.double().numpy()
    return np.stack([[weight @ one[(slice(None), *p)] + bias for p in np.ndindex(*one.shape[1:])] for one in embedded])


def _identity(network: GLASS, monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminator says the vectors themselves, so that what it is given can be seen."""
    monkeypatch.setattr(network.discriminator, "forward", lambda vectors: vectors)


def _plain_ascent(
    start: np.ndarray, origin: np.ndarray, low: float, high: float, steps: int, size: float
) -> np.ndarray:
    """Uphill on ``log(1 + exp(-v))`` summed over a vector's values, vector by vector."""
    found = start.copy()
    for step in range(1, steps + 1):
        for vector, own in zip(found, origin, strict=True):
            slope = -1 / (1 + np.exp(vector))
            vector += size * slope / np.linalg.norm(slope)
            if step % 5 == 0:
                offset = vector - own
                vector[:] = own + offset / np.linalg.norm(offset) * np.clip(np.linalg.norm(offset), low, high)
    return found


def test_vectors_are_brought_between_two_radii() -> None:
    origin = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    vectors = origin + torch.tensor([[0.0, 0.1], [3.0, 4.0], [-1.5, 0.0]])
    expected = origin + torch.tensor([[0.0, 1.0], [1.2, 1.6], [-1.5, 0.0]])
    torch.testing.assert_close(truncated(vectors, origin, 1.0, 2.0), expected)


@pytest.mark.parametrize("size", [(16, 24), (16, 16, 24)])
@pytest.mark.parametrize("steps", [3, 12])
def test_manifold_anomalies_climb_near_their_own_feature(
    size: tuple[int, ...], steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _glass(len(size), noise=0.3, radius=0.4, steps=steps, step_size=0.05).train()
    _identity(network, monkeypatch)
    joined = _joined(*size)
    torch.manual_seed(7)
    said = network(joined)
    clean, anomalous = (_adapted(network, joined[:, k : k + 1]).reshape(-1, 6) for k in (0, 1))
    torch.manual_seed(7)
    noise = 0.3 * torch.randn(clean.shape).double().numpy()
    expected = _plain_ascent(clean + noise, clean, 0.4, 0.8, steps, 0.05)
    np.testing.assert_allclose(said.normal.detach().numpy(), clean, atol=1e-4)
    np.testing.assert_allclose(said.ascended.detach().numpy(), expected, atol=2e-4)
    np.testing.assert_allclose(said.local.detach().numpy(), anomalous, atol=1e-4)
    if steps == 12:
        climbed = np.linalg.norm(expected - clean, axis=1)
        assert climbed.min() > 0.4 - 2 * 0.05 and climbed.max() < 0.8 + 2 * 0.05 + 1e-6


@pytest.mark.parametrize("size", [(16, 24), (16, 16, 24)])
def test_hypersphere_anomalies_lie_in_shells_about_what_is_usual(
    size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = _glass(len(size), hypothesis="hypersphere", noise=0.3, steps=5, step_size=0.05).train()
    joined = _joined(*size)
    normal = _scan(*size, batch=5, seed=4)
    for batch in normal.split(2):
        network.collect(batch)
    network.fit()
    centre = _adapted(network, normal).mean(0)
    usual = np.tile(centre, (2, 1))
    _identity(network, monkeypatch)
    torch.manual_seed(7)
    said = network(joined)
    clean, anomalous = (_adapted(network, joined[:, k : k + 1]).reshape(-1, 6) for k in (0, 1))
    changed = np.zeros(len(usual), dtype=bool)
    changed[0] = True  # three voxels of the first location's eight
    assert np.array_equal(said.mask.numpy() > 0, changed)
    lengths = np.concatenate(
        [np.linalg.norm(clean - usual, axis=1), np.linalg.norm((anomalous - usual)[~changed], axis=1)]
    )
    radius = np.quantile(lengths, 0.75)
    torch.manual_seed(7)
    noise = 0.3 * torch.randn(clean.shape).double().numpy()
    expected = _plain_ascent(clean + noise, usual, radius, 2 * radius, 5, 0.05)
    np.testing.assert_allclose(said.ascended.detach().numpy(), expected, atol=1e-3)
    offset = (anomalous - usual)[0]
    pushed = usual[0] + offset / np.linalg.norm(offset) * np.clip(np.linalg.norm(offset), 2 * radius, 4 * radius)
    np.testing.assert_allclose(said.local[0].detach().numpy(), pushed, atol=1e-3)
    np.testing.assert_allclose(said.local[1:].detach().numpy(), anomalous[1:], atol=1e-4)


def test_the_step_goes_along_the_discriminators_gradient() -> None:
    """Against differences: its batch norm ties the vectors of a call together."""
    network = _glass(noise=0.5, steps=1, step_size=1e-3).double().train()
    vary_norms(network)
    generator = torch.Generator().manual_seed(2)
    normal = torch.randn(4, 6, generator=generator, dtype=torch.float64)

    @torch.no_grad()
    def loss(found: Tensor) -> float:
        said = network.discriminator(torch.cat([normal, found]))[4:]
        return float(-torch.log(torch.sigmoid(said)).sum())

    torch.manual_seed(5)
    found = network._ascended(normal, normal, (0.1, 9.0), 1)
    torch.manual_seed(5)
    start = normal + 0.5 * torch.randn(4, 6).double()
    slope = torch.zeros(4, 6, dtype=torch.float64)
    for place in np.ndindex(4, 6):
        step = torch.zeros(4, 6, dtype=torch.float64)
        step[place] = 1e-5
        slope[place] = (loss(start + step) - loss(start - step)) / 2e-5
    expected = start + 1e-3 * slope / slope.norm(dim=1, keepdim=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    assert loss(found) > loss(start)


def test_only_projection_and_discriminator_learn() -> None:
    network = _glass(steps=2).train()
    before = {name: value.clone() for name, value in network.features.state_dict().items()}
    GlassLoss()(network(_joined(32, 32))).backward()
    learning = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learning == {"projection", "discriminator"}
    assert float(network.projection.weight.grad.norm()) > 0  # type: ignore[union-attr]
    assert not network.features.training
    assert all(torch.equal(value, before[name]) for name, value in network.features.state_dict().items())


def test_some_locations_are_enough_for_the_global_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _glass(points=5, steps=1).train()
    _identity(network, monkeypatch)
    joined = _joined(32, 32)
    said = network(joined)
    clean = _adapted(network, joined[:, :1]).reshape(-1, 6)
    assert said.normal.shape == said.ascended.shape == (4, 6) and said.local.shape == (32, 6)
    rows = [int(np.abs(clean - one).sum(1).argmin()) for one in said.normal.detach().numpy()]
    assert len(set(rows)) == 4
    assert [row // 16 for row in rows] == [0, 0, 1, 1], "as many of each scan"
    np.testing.assert_allclose(clean[rows], said.normal.detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("size", [(32, 40), (37, 50), (24, 17, 24)])
@torch.no_grad()
def test_map_is_what_the_discriminator_says_brought_to_the_image(size: tuple[int, ...]) -> None:
    network = _glass(len(size), sigma=1.0)
    vary_norms(network)
    network.eval()
    image = _scan(*size)
    vectors = torch.from_numpy(_adapted(network, image)).float()
    grid = tuple(-(-edge // 8) for edge in size)
    probability = torch.sigmoid(network.discriminator(vectors.flatten(0, 1)).double())
    fine = -torch.log(1 - probability).float().reshape(2, 1, *grid)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    resized = network.to_image.smoothing(functional.interpolate(fine, size, mode=mode, align_corners=False))
    highest = tuple(range(1, fine.dim()))
    scale = fine.amax(highest, keepdim=True) / resized.amax(highest, keepdim=True)
    anomaly_map = network(image)
    torch.testing.assert_close(anomaly_map, resized * scale, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.pool(anomaly_map), fine.amax(highest), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(network(image[1:]), anomaly_map[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(network)(image), anomaly_map, rtol=1e-4, atol=1e-5)


def test_the_centre_belongs_to_the_hypersphere_alone() -> None:
    assert not [name for name in _glass().state_dict() if name.startswith("centre")]
    network = _glass(hypothesis="hypersphere").train()
    with pytest.raises(RuntimeError, match="have not been fitted"):
        network(_joined(32, 32))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"hypothesis": "cube"}, "hypothesis must be one of"), ({"points": 0}, "points"), ({"noise": 0.0}, "positive")],
)
def test_wrong_arguments(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        _glass(**wrong)


def test_the_radius_holds_half_of_what_is_normal_in_other_scans() -> None:
    """Written out: the paper's 0.5 lies inside the spread of normal features, where nothing tells them apart."""
    vectors = torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(0))
    nearest = []
    for scan, own in enumerate(vectors):
        others = torch.cat([vectors[:scan], vectors[scan + 1 :]]).flatten(0, 1)
        nearest += [float((others - place).norm(dim=1).min()) for place in own]
    assert normal_spread(vectors) == pytest.approx(sorted(nearest)[29], rel=1e-5)
    assert normal_spread(3 * vectors, most=1000) == pytest.approx(3 * normal_spread(vectors), rel=1e-5)
    assert normal_spread(vectors[:1]) > 0

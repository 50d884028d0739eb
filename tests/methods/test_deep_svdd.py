"""Deep SVDD against plain sums, and what would allow it the trivial solution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medad_plugins.methods.deep_svdd import DeepSVDD

SIZES = [(16, 24), (16, 8, 24)]


def _scans(*size: int, batch: int = 5, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(*size: int, **others: object) -> DeepSVDD:
    torch.manual_seed(0)
    network = DeepSVDD(len(size), 1, size, (4, 8), 6, **others)
    network.train()
    with torch.no_grad():
        for _ in range(20):  # running statistics
            network.embed(_scans(*size))
    return network.eval()


@pytest.mark.parametrize("size", SIZES)
def test_nothing_allows_the_trivial_solution(size: tuple[int, ...]) -> None:
    """No bias, no affine part, no bounded activation: what is learnt are weights of the scan alone."""
    network = _network(*size)
    kinds = {type(module).__name__ for part in (network.encoder, network.bottleneck) for module in part.children()}
    dims = len(size)
    assert kinds == {f"Conv{dims}d", f"BatchNorm{dims}d", "LeakyReLU", "Linear"}
    names = [name for name, _ in (*network.encoder.named_parameters(), *network.bottleneck.named_parameters())]
    assert names and all(name.endswith("weight") for name in names)
    norms = [module for module in network.encoder if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 2
    assert all(norm.weight is None and norm.bias is None and norm.eps == 1e-4 for norm in norms)
    assert len(names) == 3, "a weight for each convolution and the linear layer"


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_score_is_the_squared_distance(size: tuple[int, ...]) -> None:
    network, scans = _network(*size), _scans(*size, seed=1)
    network.set_centre(torch.linspace(-1, 1, 6))
    anomaly_map = network(scans)
    assert anomaly_map.shape == scans.shape and anomaly_map.dtype == torch.float32
    for scan, own in zip(scans.double().numpy(), anomaly_map, strict=True):
        contrast = scan - scan.mean()
        contrast /= np.abs(contrast).mean()
        x = torch.from_numpy(contrast).float()[None]
        for layer in (*network.encoder, nn.Flatten(), *network.bottleneck.children()):
            x = layer(x)
        expected = float(((x - network.centre) ** 2).sum())
        assert float(network.pool(own[None])) == pytest.approx(expected, rel=1e-4)
        assert float(own.max() - own.min()) == 0, "it does not say where"


@torch.no_grad()
def test_intensities_may_be_scaled_and_shifted() -> None:
    network, scans = _network(16, 24), _scans(16, 24)
    torch.testing.assert_close(network(0.3 * scans + 0.2), network(scans), rtol=1e-3, atol=1e-4)
    plain = _network(16, 24, contrast=False)
    assert not torch.allclose(plain(0.3 * scans + 0.2), plain(scans), rtol=1e-2)
    assert bool(torch.isfinite(network(torch.zeros(1, 1, 16, 24))).all()), "a black scan"


def test_centre_keeps_off_zero() -> None:
    network = _network(16, 24)
    network.set_centre(torch.tensor([-2.0, -0.05, 0.0, 0.04, 0.1, 3.0]).double())
    torch.testing.assert_close(network.centre, torch.tensor([-2.0, -0.1, 0.1, 0.1, 0.1, 3.0]))
    assert network.centre.dtype == torch.float32


@torch.no_grad()
def test_radius_follows_after_a_while() -> None:
    network = _network(16, 24)
    distances = torch.rand(50, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        network.follow(distances, 0.1, 3)
        assert float(network.radius) == 0
    network.follow(distances, 0.1, 3)
    assert float(network.radius) == pytest.approx(np.quantile(np.sqrt(distances.numpy()), 0.9), rel=1e-5)
    scans = _scans(16, 24)
    inside = network.distances(network.embed(scans)) - network.radius**2
    torch.testing.assert_close(network.pool(network(scans)), inside)


@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
@pytest.mark.parametrize("size", SIZES)
def test_map_of_the_gradient_keeps_the_score(size: tuple[int, ...], reduction: str | float) -> None:
    network = _network(*size, map="gradient", reduction=reduction)
    network.set_centre(torch.linspace(-1, 1, 6))
    network.radius = torch.tensor(0.7)
    scans = _scans(*size, batch=2, seed=1)
    with torch.no_grad():
        anomaly_map = network(scans)
        score = network.distances(network.embed(scans)) - 0.49
    torch.testing.assert_close(network.pool(anomaly_map), score, rtol=1e-4, atol=1e-4)
    own = scans.clone().requires_grad_(True)
    network.distances(network.embed(own)).sum().backward()
    assert own.grad is not None
    for case in range(2):
        expected = own.grad[case].abs().flatten()
        found = anomaly_map[case].flatten() + 0.49
        assert float(torch.corrcoef(torch.stack([expected, found]))[0, 1]) > 0.9999
    with pytest.raises(torch.jit.Error, match="cannot be computed by TorchScript"):
        torch.jit.script(network)(scans)


@torch.no_grad()
def test_reconstruction_has_the_scans_own_intensities() -> None:
    for contrast in (True, False):
        network, scans = _network(16, 24, contrast=contrast), _scans(16, 24)
        rebuilt, normal = network.rebuild(scans), network.normalised(scans)
        assert rebuilt.shape == scans.shape
        again = network.reconstruct(scans)
        # the same affine map takes one to the other
        scale = (scans - scans.mean((1, 2, 3), keepdim=True)).abs().mean((1, 2, 3), keepdim=True) if contrast else 1.0
        torch.testing.assert_close((again - scans) / scale, rebuilt - normal, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_centre_and_radius_are_in_the_state(tmp_path: Path) -> None:
    network, scans = _network(16, 24), _scans(16, 24)
    network.set_centre(torch.randn(6))
    network.follow(torch.rand(9), 0.1, 0)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = DeepSVDD(2, 1, (16, 24), (4, 8), 6).eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert torch.equal(other(scans), network(scans))
    assert torch.equal(torch.jit.script(other)(scans), network(scans))


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="map must be one of"):
        DeepSVDD(map="score")

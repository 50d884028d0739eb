"""Latents that are held to something, robust training and predicted features, as parts of the autoencoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from medad_plugins.methods.ae import AutoencodingLoss, ConvAE
from medad_plugins.scorers import ResidualMap

VARIANTS: list[dict[str, Any]] = [
    {"latent": "subspace", "score": "cosine"},
    {"latent": "kl"},
    {"latent": "winners", "bottleneck": "spatial"},
    {"latent": "autoregressive", "score": "likelihood", "block": "ssmctb"},
    {"block": "sspcab"},
    {"residual": "uncertainty", "hypotheses": 3, "score": "manifold"},
]


def _ae(spatial_dims: int = 2, **arguments: Any) -> ConvAE:
    torch.manual_seed(0)
    small = {"image_size": 16, "channels": (4, 8), "hidden_size": 16, "latent_size": 4}
    return ConvAE(spatial_dims, **{**small, **arguments})


def _scan(spatial_dims: int = 2, batch: int = 4) -> Tensor:
    return torch.rand(batch, 1, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_variants_learn_map_alone_and_are_exported(variant: dict[str, Any], spatial_dims: int) -> None:
    network, image = _ae(spatial_dims, **variant), _scan(spatial_dims)
    AutoencodingLoss(network.difference)(network(image), image).backward()
    assert all(p.grad is not None for p in network.parameters())
    network.eval()
    with torch.no_grad():
        if network.judges:
            network.collect(image)
            network.fit()
        found = network(image)
        assert found.shape == image.shape and found.dtype == torch.float32 and float(found.min()) >= 0
        torch.testing.assert_close(network(image[1:2]), found[1:2], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(torch.jit.script(network)(image), found)
        if spatial_dims == 2:
            torch.testing.assert_close(torch.export.export(network, (image,)).module()(image), found)
        again = _ae(spatial_dims, **variant).eval()
        again.load_state_dict(network.state_dict(), strict=True)
        assert torch.equal(again(image), found)


@torch.no_grad()
def test_the_terms_reach_the_loss_by_their_weights() -> None:
    network, image = _ae(latent="kl", block="sspcab"), _scan()
    output = network(image)
    assert isinstance(output, tuple)
    compared, target, terms = output
    assert target is image and set(terms) == {"latent", "block"}
    loss = AutoencodingLoss(network.difference, weights={"latent": 0.5, "block": 2.0})(output, image)
    expected = (compared - image).square().mean() + 0.5 * terms["latent"] + 2 * terms["block"]
    torch.testing.assert_close(loss, expected)


def test_roots_are_of_each_scans_mean() -> None:
    a, b = _scan(), torch.rand(4, 1, 16, 16)
    found = AutoencodingLoss(ResidualMap("l2"), "roots")(a, b)
    torch.testing.assert_close(found, (a - b).square().mean((1, 2, 3)).sqrt().mean())
    with pytest.raises(ValueError, match="errors must be"):
        AutoencodingLoss(ResidualMap("l2"), "sums")
    with pytest.raises(ValueError, match="a likelihood has no root"):
        AutoencodingLoss(_ae(residual="uncertainty").difference, "roots")


@torch.no_grad()
def test_the_best_of_several_hypotheses_is_the_map_and_a_critic_sees_all() -> None:
    network, image = _ae(hypotheses=3, critic=True), _scan()
    compared, _, terms = network(image)
    assert compared.shape == (4, 3, 16, 16) and set(terms) == {"critic"}
    torch.testing.assert_close(terms["critic"], network.critic(image, list(compared.chunk(3, 1))))
    network.eval()
    guesses = network.compared(image)
    best = (guesses - image).square().amin(1, keepdim=True)
    torch.testing.assert_close(network(image), best)
    torch.testing.assert_close((network.reconstruct(image) - image).square(), best)
    with pytest.raises(ValueError, match="hypotheses must be at least 1, with a critic 2"):
        _ae(critic=True)


@torch.no_grad()
def test_manifold_judges_latent_and_length_of_the_residual() -> None:
    network, image = _ae(score="manifold", reduction="mean").eval(), _scan(batch=8)
    network.collect(image)
    network.fit()
    code, rebuilt = network.encode(image), network.reconstruct(image)
    vectors = torch.cat([code, (rebuilt - image).flatten(1).norm(dim=1, keepdim=True)], 1)
    expected = network.judge.detector.head(vectors)
    torch.testing.assert_close(network.pool(network(image)), expected, rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_cosine_score() -> None:
    network, image = _ae(score="cosine", reduction="max").eval(), _scan()
    x, y = image.flatten(1).double(), network.reconstruct(image).flatten(1).double()
    expected = 1 - (x * y).sum(1) / x.norm(dim=1) / y.norm(dim=1)
    torch.testing.assert_close(network.pool(network(image)).double(), expected, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_likelihood_score_adds_both_in_their_normal_ranges() -> None:
    network, image = _ae(latent="autoregressive", score="likelihood", reduction="mean").eval(), _scan(batch=8)
    network.collect(image)
    network.fit()
    unlikely = network.unlikelihood(network.encode(image))
    error = (network.reconstruct(image) - image).square().mean((1, 2, 3))
    expected = sum(values / (values.max() - values.min()) for values in (unlikely, error))
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(network.pool(network(image)), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["pixels", "scans"])
@torch.no_grad()
def test_what_a_robust_autoencoder_learns_has_no_outliers(kind: str) -> None:
    network, image = _ae(outliers=kind, outlier_size=0.2), _scan() * 0.1 + 0.45
    image[0] = 1.0
    before = {name: value.clone() for name, value in network.state_dict().items()}
    target = network.without_outliers(image)
    assert network.training and all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    rebuilt = network.eval().reconstruct(image)
    residual = image - rebuilt
    if kind == "pixels":
        torch.testing.assert_close(target, rebuilt + residual.clamp(-0.2, 0.2))
    else:
        length = residual.square().mean((1, 2, 3)).sqrt()
        shares = (0.2 / length).clamp_max(1)
        assert float(shares[0]) < 1
        torch.testing.assert_close(target, rebuilt + residual * shares[:, None, None, None])
    network.train()
    output = network(image)
    assert isinstance(output, tuple) and output[1].shape == image.shape and not output[2]
    torch.testing.assert_close(output[1], target)


def test_a_scan_that_is_an_outlier_is_learnt_less() -> None:
    """One white scan among dark ones: a plain autoencoder comes to rebuild it, a robust one hardly."""
    scans = torch.full((12, 1, 16, 16), 0.3) + 0.02 * torch.rand(12, 1, 16, 16)
    scans[:, :, 4:8, 4:8] += torch.linspace(0, 0.2, 12)[:, None, None, None]
    scans[0] = 0.9
    errors = {}
    for kind in ("none", "scans"):
        network = _ae(outliers=kind, outlier_size=0.1)
        loss = AutoencodingLoss(network.difference)
        optimizer = torch.optim.Adam(network.parameters(), 0.003)
        for _ in range(60):
            optimizer.zero_grad()
            loss(network(scans), scans).backward()
            optimizer.step()
        with torch.no_grad():
            errors[kind] = float((network.eval().reconstruct(scans[:1]) - scans[:1]).square().mean())
    assert errors["scans"] > 2 * errors["none"]


def test_wrong_variants() -> None:
    for name in ("latent", "outliers", "block"):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            _ae(2, **{name: "some"})
    with pytest.raises(ValueError, match="bottleneck must be 'vector'"):
        _ae(latent="subspace", bottleneck="spatial")
    with pytest.raises(ValueError, match="needs latent 'autoregressive'"):
        _ae(score="likelihood")

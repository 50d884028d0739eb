"""The adversarial autoencoder and its latents' critic, by plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.aae import AAE, LatentCritic


def _network(size: tuple[int, ...], **keys: object) -> AAE:
    torch.manual_seed(0)
    return AAE(len(size), 2, size, (4, 8), 12, 6, critic_widths=(5, 7), **keys)  # type: ignore[arg-type]


def _scans(size: tuple[int, ...]) -> Tensor:
    return torch.rand(3, 2, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(4, 6), (4, 3, 2), (4, 1, 3, 2)])
@torch.no_grad()
def test_critic_is_a_multilayer_perceptron(shape: tuple[int, ...]) -> None:
    critic, latents = LatentCritic(6, (5, 7), slope=0.2), torch.randn(shape)
    weights = [p.double().numpy() for p in critic.parameters()]
    assert [w.shape for w in weights] == [(5, 6), (5,), (7, 5), (7,), (1, 7), (1,)]
    for latent, logit in zip(latents.double().numpy(), critic(latents), strict=True):
        values = latent.ravel()
        for index in (0, 2):
            values = weights[index] @ values + weights[index + 1]
            values = np.where(values > 0, values, 0.2 * values)
        assert float(logit) == pytest.approx(float((weights[4] @ values + weights[5])[0]), abs=1e-5)
    assert critic(latents).shape == (4,)


@pytest.mark.parametrize("size", [(16, 24), (16, 8, 24)])
@pytest.mark.parametrize("bottleneck", ["vector", "spatial"])
@pytest.mark.parametrize("residual", ["l1", "l2"])
@torch.no_grad()
def test_map_is_the_residual(size: tuple[int, ...], bottleneck: str, residual: str) -> None:
    network, scans = _network(size, bottleneck=bottleneck, residual=residual).eval(), _scans(size)
    latent = network.bottleneck(network.encoder(2 * scans - 1))
    assert latent.shape == ((3, 6) if bottleneck == "vector" else (3, 6, *(edge // 4 for edge in size)))
    assert network.critic(latent).shape == (3,)
    rebuilt = (network.decoder(network.expansion(latent)) + 1) / 2
    difference = (scans - rebuilt).abs() if residual == "l1" else (scans - rebuilt) ** 2
    torch.testing.assert_close(network(scans), difference.mean(1, keepdim=True))
    torch.testing.assert_close(network.pool(network(scans)), difference.flatten(1).mean(1))
    torch.testing.assert_close(torch.jit.script(network)(scans), network(scans))


def test_reconstructions_are_coded_in_inference_mode_and_pass_gradients() -> None:
    network, scans = _network((16, 16)).train(), _scans((16, 16)).requires_grad_(True)
    before = {name: value.clone() for name, value in network.named_buffers()}
    again = network.code_again(scans)
    assert network.encoder.training and network.bottleneck.training
    for name, value in network.named_buffers():
        assert torch.equal(value, before[name]), name
    again.sum().backward()
    assert scans.grad is not None and float(scans.grad.abs().sum()) > 0
    assert all(p.grad is not None for p in network.encoder.parameters())
    network.eval()
    torch.testing.assert_close(network.encode(scans), again)


@torch.no_grad()
def test_prior_is_standard_normal() -> None:
    torch.manual_seed(0)
    drawn = _network((16, 16)).prior(torch.zeros(4000, 6))
    assert drawn.mean(0).abs().max() < 0.1 and (drawn.std(0) - 1).abs().max() < 0.05
    assert (torch.corrcoef(drawn.T) - torch.eye(6)).abs().max() < 0.1


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="residual must be one of"):
        AAE(residual="l3")
    with pytest.raises(InputError, match="batch norm needs more than one case"):
        _network((16, 16)).train().training_output(_scans((16, 16))[:1])
    with pytest.raises(InputError, match="the latent is no bottleneck"):
        AAE(2, 1, 16, (4, 8), 12, latent_size=1000)


@torch.no_grad()
def test_density_of_latent_and_residual_as_the_score() -> None:
    """GPND's, fitted to normal scans after the training."""
    scans = torch.rand(12, 2, 16, 24, generator=torch.Generator().manual_seed(2))
    network = _network((16, 24), score="manifold", reduction="max").eval()
    plain = network(scans)
    network.collect(scans)
    network.fit()
    found = network(scans)
    vectors = torch.cat(
        [network.encode(scans), (network.reconstruct(scans) - scans).flatten(1).norm(dim=1)[:, None]], 1
    )
    torch.testing.assert_close(network.pool(found), network.judge.detector.head(vectors), rtol=1e-3, atol=1e-5)
    assert (found.flatten(1).argmax(1) == plain.flatten(1).argmax(1)).all(), "it shows the residual"
    torch.testing.assert_close(torch.jit.script(network)(scans), found)
    with pytest.raises(ValueError, match="score must be one of"):
        _network((16, 24), score="likelihood")

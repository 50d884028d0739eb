"""The terms of the adversarial autoencoder, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.methods.aae import AAE, AAETerms


def _network(dims: int = 2, bottleneck: str = "vector") -> AAE:
    torch.manual_seed(0)
    return AAE(dims, 1, 16, (4, 8), 12, 6, bottleneck, critic_widths=(5, 7)).double().eval()


def _scans(dims: int = 2) -> Tensor:
    return torch.rand(3, 1, *[16] * dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("errors", ["sums", "means"])
@pytest.mark.parametrize("bottleneck", ["vector", "spatial"])
def test_reconstruction(dims: int, errors: str, bottleneck: str) -> None:
    network, scans = _network(dims, bottleneck), _scans(dims)
    found = AAETerms(errors=errors).reconstruction(network, {"image": scans})
    with torch.no_grad():
        latent = network.bottleneck(network.encoder(2 * scans - 1))
        rebuilt = network.decoder(network.expansion(latent))  # on -1..1, where the network works
        second = network.bottleneck(network.encoder(rebuilt))
    residuals = [(a - b).ravel() for a, b in zip(rebuilt.numpy(), (2 * scans - 1).numpy(), strict=True)]
    gaps = [(a - b).ravel() for a, b in zip(second.numpy(), latent.numpy(), strict=True)]
    if errors == "sums":
        assert found["residual"].item() == pytest.approx(np.mean([math.sqrt((r**2).sum()) for r in residuals]))
        assert found["consistency"].item() == pytest.approx(np.mean([(g**2).sum() for g in gaps]))
    else:
        assert found["residual"].item() == pytest.approx(np.mean(np.concatenate(residuals) ** 2))
        assert found["consistency"].item() == pytest.approx(np.mean(np.concatenate(gaps) ** 2))
    assert set(AAETerms(constrained=False).reconstruction(network, {"image": scans})) == {"residual"}


def test_consistency_teaches_through_both_codings() -> None:
    """Neither latent is detached: the gradient is that of moving the weights in both."""
    network, batch = _network(), {"image": _scans()}
    terms = AAETerms()
    terms.reconstruction(network, batch)["consistency"].backward()
    weight = network.encoder.get_parameter("0.weight")
    assert weight.grad is not None
    place, step = (0, 0, 1, 1), 1e-5
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            weight[place] += sign * step
            values.append(terms.reconstruction(network, batch)["consistency"].item())
            weight[place] -= sign * step
    assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)
    assert any(p.grad is not None and p.grad.any() for p in network.decoder.parameters())


@pytest.mark.parametrize("adversarial", ["wasserstein", "bce", "lsgan", "hinge"])
def test_the_critic_rates_the_prior_high(adversarial: str) -> None:
    network, batch = _network(), {"image": _scans()}
    terms = AAETerms(adversarial)
    torch.manual_seed(3)
    found = {name: term.item() for name, term in terms.discriminator(network, batch).items()}
    fooled = terms.regularisation(network, batch)["fooled"].item()
    torch.manual_seed(3)
    with torch.no_grad():
        latent = network.encode(batch["image"])
        prior = torch.randn(latent.shape).to(latent)  # what the network draws first
        real, generated = network.critic(prior).tolist(), network.critic(latent).tolist()
    formulas = {
        "wasserstein": (lambda x: -x, lambda x: x, lambda x: -x),
        "bce": (
            lambda x: math.log1p(math.exp(-x)),
            lambda x: math.log1p(math.exp(x)),
            lambda x: math.log1p(math.exp(-x)),
        ),
        "lsgan": (lambda x: (x - 1) ** 2, lambda x: x**2, lambda x: (x - 1) ** 2),
        "hinge": (lambda x: max(0, 1 - x), lambda x: max(0, 1 + x), lambda x: -x),
    }
    expected = [
        np.mean([f(x) for x in logits])
        for f, logits in zip(formulas[adversarial], (real, generated, generated), strict=True)
    ]
    np.testing.assert_allclose([found["real"], found["generated"], fooled], expected, rtol=1e-6)
    assert ("penalty" in found) == (adversarial == "wasserstein")


def test_the_penalty_is_between_prior_and_latents() -> None:
    """With a linear critic the gradient is the same everywhere, so its norm is known."""
    network = _network()
    network.critic = torch.nn.Sequential(torch.nn.Linear(6, 1), torch.nn.Flatten(0)).double()  # type: ignore[assignment]
    found = AAETerms().discriminator(network, {"image": _scans()})["penalty"]
    norm = next(network.critic.parameters()).detach().norm().item()
    assert found.item() == pytest.approx((norm - 1) ** 2)


def test_who_learns_from_what() -> None:
    network, batch = _network(), {"image": _scans()}

    def trained(terms: dict[str, Tensor]) -> set[str]:
        network.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        return {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}

    terms = AAETerms()
    assert trained(terms.reconstruction(network, batch)) == {"encoder", "bottleneck", "expansion", "decoder"}
    assert trained(terms.discriminator(network, batch)) == {"critic"}
    assert trained(terms.regularisation(network, batch)) == {"encoder", "bottleneck", "critic"}


def test_a_perfect_reconstruction_has_a_finite_gradient() -> None:
    network = _network()
    network.decode = lambda latent: torch.zeros(3, 1, 16, 16, dtype=torch.float64) + 0 * latent.sum()  # type: ignore[method-assign]
    terms = AAETerms(constrained=False).reconstruction(network, {"image": torch.zeros(3, 1, 16, 16).double()})
    terms["residual"].backward()
    gradients = [p.grad for p in network.encoder.parameters() if p.grad is not None]
    assert gradients and all(bool(torch.isfinite(g).all()) for g in gradients)


def test_game_pulls_latents_to_the_prior() -> None:
    """Both sides alone, without a reconstruction: latents far away come near, without becoming one."""
    torch.manual_seed(0)
    network, terms = AAE(2, 1, 16, (4, 8), 32, 2), AAETerms()
    with torch.no_grad():
        list(network.bottleneck.parameters())[-1].fill_(3.0)
    scans = torch.rand(32, 1, 16, 16)
    parts = [*network.encoder.parameters(), *network.bottleneck.parameters()]
    encoder = torch.optim.Adam(parts, 0.005, betas=(0.5, 0.9))
    critic = torch.optim.Adam(network.critic.parameters(), 0.005, betas=(0.5, 0.9))
    with torch.no_grad():
        assert network.encode(scans).mean(0).min() > 2
    for _ in range(80):
        for _ in range(2):
            found = terms.discriminator(network, {"image": scans})
            critic.zero_grad()
            (found["real"] + found["generated"] + 10 * found["penalty"]).backward()
            critic.step()
        encoder.zero_grad()
        terms.regularisation(network, {"image": scans})["fooled"].backward()
        encoder.step()
    with torch.no_grad():
        latent = network.encode(scans)
    assert latent.mean(0).abs().max() < 1.5, latent.mean(0)
    assert latent.std(0).min() > 0.2, latent.std(0)


def test_what_there_is_not() -> None:
    with pytest.raises(ValueError, match="adversarial must be one of"):
        AAETerms("none")
    with pytest.raises(ValueError, match="errors must be 'sums' or 'means'"):
        AAETerms(errors="sum")

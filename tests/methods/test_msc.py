"""MSC against plain sums: what is contrasted about which centre, and what the score is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medad_plugins.methods.msc import MSC, MSCTerms

SIZES = [(32, 40), (32, 16, 32)]


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(spatial_dims: int = 2) -> MSC:
    torch.manual_seed(0)
    return MSC(spatial_dims, 1, "resnet10", "none", stages=3)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _features(network: MSC, scans: Tensor) -> Tensor:
    with torch.no_grad():
        return _unit(network.encoder(scans)[-1].double().flatten(2).mean(2))


@pytest.mark.parametrize("size", SIZES)
def test_terms_are_of_angles_and_distances_at_the_centre(size: tuple[int, ...]) -> None:
    network, scans = _network(len(size)).train(), _scans(*size)
    features = _features(network, scans)
    network.set_centre(features.mean(0) * 3)
    centre = _unit(features.mean(0))
    torch.testing.assert_close(network.centre.double(), centre)
    vectors = _unit(features - centre)
    contrast = 0.0
    for own in range(6):
        powers = {other: math.exp(float(vectors[own] @ vectors[other]) / 0.25) for other in range(6) if other != own}
        contrast -= math.log(powers[own ^ 1] / sum(powers.values())) / 6
    squares = (features - centre).square().sum(1)
    expected = {"contrast": contrast, "centre": float(squares[0::2].mean() + squares[1::2].mean())}
    terms = MSCTerms()(network, {"image": scans})
    assert {name: float(term.detach()) for name, term in terms.items()} == pytest.approx(expected, rel=1e-3)


def test_early_stages_and_statistics_stay() -> None:
    network = _network().train()
    network.set_centre(_features(network, _scans(32, 32)).mean(0))
    before = {name: value.clone() for name, value in network.encoder.state_dict().items()}
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    torch.stack(list(MSCTerms()(network, {"image": _scans(32, 32)}).values())).sum().backward()
    assert all(parameter.grad is not None for parameter in learning)
    torch.optim.SGD(learning, 0.1).step()
    changed = [name for name, value in network.encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert changed and all(name.startswith("layer3") for name in changed)
    assert not any("running" in name for name in changed)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_score_is_that_of_the_nearest_normal_directions(size: tuple[int, ...]) -> None:
    network, normal, scans = _network(len(size)).eval(), _scans(*size, batch=9), _scans(*size, seed=1)
    network.collect(normal)
    network.fit()
    own, known = _features(network, scans), _features(network, normal)
    squared = (own[:, None] - known).square().sum(2)
    expected = squared.sort(1).values[:, :2].mean(1)
    found = network(scans)
    assert found.shape == scans.shape and float(found.flatten(1).std(1).max()) == 0
    torch.testing.assert_close(network.pool(found).double(), expected, rtol=1e-3, atol=1e-7)
    brighter = _network(len(size)).eval()
    brighter.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(torch.jit.script(brighter)(scans), found, rtol=1e-4, atol=1e-7)


def test_training_draws_views_together_and_keeps_the_cone() -> None:
    """Of noisy views of eight scans, the angle at the centre shrinks; about the origin the scans stay close."""
    network, generator = _network().train(), torch.Generator().manual_seed(3)
    base = torch.nn.functional.interpolate(torch.rand(8, 1, 4, 4, generator=generator), (32, 32))

    def views() -> Tensor:
        return base.repeat_interleave(2, 0) + 0.2 * torch.randn(16, 1, 32, 32, generator=generator)

    network.set_centre(_features(network, views()).mean(0))
    optimizer = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], 0.002)
    held_out, losses = views(), []
    for step in range(21):
        with torch.no_grad():
            losses.append(float(MSCTerms()(network, {"image": held_out})["contrast"]))
        terms = MSCTerms()(network, {"image": views()})
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        if step < 20:
            optimizer.step()
    assert losses[-1] < losses[0] - 0.05
    features = _features(network, base)
    assert float((features @ features.t()).min()) > 0.5


def test_a_senseless_temperature_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        MSCTerms(0.0)

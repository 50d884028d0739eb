"""The variational autoencoder: its terms, scores and maps against plain sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.vae import VAE, VariationalTerms


def _vae(spatial_dims: int = 2, **arguments: Any) -> VAE:
    torch.manual_seed(0)
    settings = {"image_size": 16, "channels": (4, 6), "hidden_size": 12, "latent_size": 3, **arguments}
    return VAE(spatial_dims, **settings)


def _scan(spatial_dims: int = 2, batch: int = 3, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _divergence(mean: Tensor, log_variance: Tensor) -> float:
    """Of one case, value by value, from the textbook's formula with standard deviations."""
    total = 0.0
    for m, v in zip(mean.flatten().tolist(), log_variance.flatten().tolist(), strict=True):
        deviation = math.exp(v / 2)
        total += -math.log(deviation) + (deviation**2 + m**2) / 2 - 0.5
    return total


def _reconstruction_error(one: Tensor, other: Tensor) -> float:
    difference = (2 * one.double().numpy() - 1) - (2 * other.double().numpy() - 1)
    return float((difference**2).sum() / 2)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("bottleneck", ["vector", "spatial"])
def test_shapes(spatial_dims: int, bottleneck: str) -> None:
    network, image = _vae(spatial_dims, bottleneck=bottleneck, in_channels=2), _scan(spatial_dims, channels=2)
    reconstruction, mean, log_variance = network(image)
    latent = (3, 3) if bottleneck == "vector" else (3, 3, *[4] * spatial_dims)
    assert mean.shape == log_variance.shape == latent and reconstruction.shape == image.shape
    with torch.no_grad():
        assert network.eval()(image).shape == (3, 1, *[16] * spatial_dims)


def test_layers_are_medianomalys_with_two_heads() -> None:
    network = VAE(2, 1, 64)
    assert [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, torch.nn.Linear)] == [
        (64 * 4 * 4, 1024),
        (1024, 32),
        (16, 1024),
        (1024, 64 * 4 * 4),
    ]


def test_training_draws_latents_and_evaluation_takes_their_mean() -> None:
    network, image = _vae(), _scan()
    assert not torch.equal(network(image)[0], network(image)[0])
    network.eval()
    with torch.no_grad():
        assert torch.equal(network(image), network(image))
        mean = network.posterior(image)[0]
        torch.testing.assert_close(network.reconstruct(image), network.decode(mean))
        torch.manual_seed(3)
        drawn, mean, log_variance = network.training_output(image)
        torch.manual_seed(3)
        latent = mean + log_variance.exp().sqrt() * torch.randn(3, 3)
        torch.testing.assert_close(drawn, network.decode(latent))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("residual", ["l1", "l2"])
def test_terms(residual: str, reduction: str) -> None:
    network, image = _vae().eval(), _scan()
    torch.manual_seed(4)
    with torch.no_grad():
        terms = VariationalTerms(residual, reduction)(network, {"image": image})
        torch.manual_seed(4)
        reconstruction, mean, log_variance = network.training_output(image)
    difference = 2 * (reconstruction - image).double().numpy()
    divergences = [_divergence(m, v) for m, v in zip(mean, log_variance, strict=True)]
    values = np.abs(difference) if residual == "l1" else difference**2
    if reduction == "mean":
        expected = (values.mean(), sum(divergences) / 3 / 3)
    else:
        expected = (values.sum() / 3 / (2 if residual == "l2" else 1), sum(divergences) / 3)
    assert [float(value) for value in terms.values()] == pytest.approx(expected, rel=1e-5)
    assert list(terms) == ["reconstruction", "divergence"]


def test_masked_scans_give_a_term_of_the_whole_scan() -> None:
    network, image = _vae(mask_input="one").eval(), _scan()
    torch.manual_seed(4)
    with torch.no_grad():
        terms = VariationalTerms()(network, {"image": image})
        torch.manual_seed(4)
        network.training_output(image)
        filled = network.reconstruct(network.masked(image))
    assert float(terms["context"]) == pytest.approx(float((2 * (filled - image)).square().mean()), rel=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("score", ["kl", "elbo", "iwae", "probability"])
@pytest.mark.parametrize("reduction", ["mean", "max"])
@torch.no_grad()
def test_score_is_the_formula_and_the_pooled_map(spatial_dims: int, score: str, reduction: str) -> None:
    network, image = _vae(spatial_dims, score=score, samples=4, reduction=reduction).eval(), _scan(spatial_dims)
    scores = network.pool(network(image))
    mean, log_variance = network.posterior(image)
    for index in range(3):
        m, v = mean[index].double(), log_variance[index].double()
        divergence = _divergence(m, v)
        fits, ratios = [], []
        for noise in network.noise.double():
            z = m + torch.exp(v / 2) * noise
            fits.append(_reconstruction_error(network.decode(z.float()[None])[0], image[index]))
            prior = math.exp(-0.5 * float((z**2).sum()))
            own = math.exp(-0.5 * float((noise**2).sum())) / math.prod(math.exp(x / 2) for x in v.tolist())
            ratios.append(prior / own)
        smallest = min(fits)
        expected = {
            "kl": divergence,
            "elbo": divergence + _reconstruction_error(network.reconstruct(image)[index], image[index]),
            "probability": sum(fits) / 4,
            "iwae": -math.log(sum(ratios) / 4) + smallest - math.log(sum(math.exp(smallest - fit) for fit in fits) / 4),
        }[score]
        assert float(scores[index]) == pytest.approx(expected / 16**spatial_dims, rel=1e-4, abs=1e-6)


@torch.no_grad()
def test_importance_weighting_survives_images_whose_probability_underflows() -> None:
    network, image = _vae(score="iwae", image_size=64).eval(), torch.ones(1, 1, 64, 64)
    assert math.exp(-float(network.reconstruction_error(network.reconstruct(image), image))) == 0
    assert bool(torch.isfinite(network(image)).all())


def _numeric(network: VAE, image: Tensor, value: Any, at: tuple[int, ...], step: float = 1e-5) -> float:
    more, less = image.clone(), image.clone()
    more[(0, *at)] += step
    less[(0, *at)] -= step
    return abs(value(more) - value(less)) / (2 * step)


@pytest.mark.parametrize("kind", ["residual_gradient", "kl_gradient", "elbo_gradient", "combined"])
@torch.no_grad()
def test_maps_of_gradients_are_differences_of_the_loss(kind: str) -> None:
    network, image = _vae(map=kind, in_channels=2).double().eval(), _scan(batch=1, channels=2).double()

    def divergence(scan: Tensor) -> float:
        return float(network.posterior(scan)[0].square().sum() / 2) + float(
            (network.posterior(scan)[1].exp() - 1 - network.posterior(scan)[1]).sum() / 2
        )

    def error(scan: Tensor) -> float:
        return float((2 * (network.reconstruct(scan) - scan)).square().sum() / 2)

    def both(scan: Tensor) -> float:
        return divergence(scan) + error(scan)

    # single precision would drown the differences
    network.divergence = lambda mean, log_variance: (  # type: ignore[method-assign]
        0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
    )
    network.reconstruction_error = lambda reconstruction, image: (  # type: ignore[method-assign]
        0.5 * (2 * (reconstruction - image)).square().flatten(1).sum(1)
    )
    value = {"residual_gradient": error, "kl_gradient": divergence, "elbo_gradient": both, "combined": divergence}
    anomaly_map = network(image)
    for row, column in ((3, 4), (8, 15)):
        expected = sum(_numeric(network, image, value[kind], (c, row, column)) for c in range(2)) / 2
        if kind == "combined":
            expected *= float((network.reconstruct(image) - image)[0, :, row, column].square().mean())
        assert float(anomaly_map[0, 0, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("arguments", [{"map": "combined", "sigma": 1.0}, {"map": "elbo_gradient"}, {"score": "iwae"}])
@torch.no_grad()
def test_a_map_does_not_depend_on_batch_mates(arguments: dict[str, Any]) -> None:
    network, image = _vae(**arguments), _scan()
    network(image)
    network.eval()
    together = network(image)
    torch.testing.assert_close(together[1:2], network(image[1:2]), rtol=1e-4, atol=1e-6)
    assert not any(parameter.grad is not None for parameter in network.parameters())


def test_no_divergence_has_no_gradient() -> None:
    network, image = _vae(map="kl_gradient").eval(), _scan()
    with torch.no_grad():
        last = list(network.bottleneck.children())[-1]
        last.weight.zero_()  # type: ignore[operator]
        assert float(network(image).abs().max()) == 0


@pytest.mark.parametrize("score", ["map", "elbo", "iwae"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_scripted_it_gives_the_same_map(spatial_dims: int, score: str) -> None:
    network, image = _vae(spatial_dims, score=score).eval(), _scan(spatial_dims)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_scripted_a_map_of_gradients_says_that_it_cannot() -> None:
    scripted = torch.jit.script(_vae(map="kl_gradient").eval())
    with pytest.raises(torch.jit.Error, match="gradients cannot be computed by TorchScript"):
        scripted(_scan())


def test_bad_arguments_are_reported() -> None:
    for arguments in ({"map": "grad"}, {"score": "rec"}, {"residual": "l3"}, {"samples": 0}, {"mask_input": "all"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            _vae(**arguments)
    with pytest.raises(InputError, match=r"no bottleneck: latent_size \(expected 1 to 96, .* found 97\)"):
        _vae(latent_size=97)
    with pytest.raises(InputError, match=r"halves its image 2 times: image_size \(expected a multiple of 4"):
        _vae(3, image_size=(16, 18, 16))
    with pytest.raises(InputError, match="batch norm needs more than one case: batch_size"):
        _vae()(_scan(batch=1))
    with pytest.raises(ValueError, match="reduction"):
        VariationalTerms(reduction="max")


# a detector's score


@pytest.mark.parametrize("score", ["code", "pathway", "code_errors"])
@torch.no_grad()
def test_a_detectors_score_is_the_pooled_map(score: str) -> None:
    network = _vae(score=score, detector="knn").eval()
    normal = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    before = network(_scan())
    # the residual, before anything is fitted
    torch.testing.assert_close(before, _vae().eval()(_scan()))
    for batch in normal.split(8):
        network.collect(batch)
    network.fit()
    found = network(_scan())
    assert found.shape == before.shape
    if score == "code":
        # the mean distance to the nearest twenty means, each value in its own deviations
        known, new = network.posterior(normal)[0], network.posterior(_scan())[0]
        shift, scale = known.mean(0), known.std(0, correction=0)
        distances = torch.cdist((new - shift) / scale, (known - shift) / scale).sort(1).values[:, :20].mean(1)
        torch.testing.assert_close(network.pool(found), distances, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network(_scan()[:1]), found[:1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(network)(_scan()), found, rtol=1e-4, atol=1e-5)

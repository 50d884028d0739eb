"""GANomaly: layers, terms, what each part learns from, and the score, against the paper's plain formulas."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.engines import NamedOptimizers, Phase, PhasedTrainer, parameters_of
from medad_plugins.errors import InputError
from medad_plugins.methods.ganomaly import GANomaly, RestartDiscriminator, ganomaly_terms

GENERATOR = ("encoder", "decoder", "second_encoder")
WEIGHTS = {"adversarial": 1.0, "context": 50.0, "encoding": 1.0, "real": 0.5, "generated": 0.5}


def _network(spatial_dims: int = 2, **arguments: Any) -> GANomaly:
    torch.manual_seed(0)
    return GANomaly(spatial_dims, **{"image_size": 16, "width": 4, "latent_size": 5, **arguments})


def _scan(spatial_dims: int = 2, batch: int = 3, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


def test_layers_are_the_papers() -> None:
    network = GANomaly(2, 1, 64, norm="batch")
    trunk = [layer for layer in network.encoder.trunk if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in trunk] == [(1, 64), (64, 128), (128, 256), (256, 512)]
    assert all(c.kernel_size == (4, 4) and c.stride == (2, 2) and c.bias is None for c in trunk)
    kinds = [type(layer).__name__ for layer in network.encoder.trunk]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3]
    # the last convolution covers the 4 x 4 grid: a linear layer without bias
    assert [tuple(p.shape) for p in network.encoder.head.parameters()] == [(100, 512 * 16)]
    up = [layer for layer in network.decoder.trunk if isinstance(layer, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in up] == [(512, 256), (256, 128), (128, 64), (64, 1)]
    assert isinstance(network.decoder.trunk[-1], nn.Tanh)
    own = {id(parameter) for parameter in network.encoder.parameters()}
    assert not own & {id(parameter) for parameter in network.second_encoder.parameters()}
    weights = torch.cat([c.weight.flatten() for c in trunk]).detach()
    assert float(weights.std()) == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "group", "none"])
def test_shapes(spatial_dims: int, norm: str) -> None:
    network, image = _network(spatial_dims, norm=norm, in_channels=2), _scan(spatial_dims, channels=2)
    again, code, second = network(image)
    assert again.shape == image.shape and code.shape == second.shape == (3, 5)
    with torch.no_grad():
        assert network.eval()(image).shape == (3, 1, *[16] * spatial_dims)


def test_terms_are_the_papers() -> None:
    network, image = _network().eval(), _scan()
    terms = {name: float(value.detach()) for name, value in ganomaly_terms(network, {"image": image}).items()}
    with torch.no_grad():
        scan = 2 * image - 1
        code = network.encoder(scan)
        again = network.decoder(code)
        second = network.second_encoder(again)
        (real, f_real), (generated, f_generated) = network.discriminator(scan), network.discriminator(again)
        chances = torch.sigmoid(real), torch.sigmoid(generated)
    expected = {
        "adversarial": sum(float((a - b) ** 2) for a, b in zip(f_real.flatten(), f_generated.flatten()))
        / f_real.numel(),
        "context": sum(abs(float(a - b)) for a, b in zip(scan.flatten(), again.flatten())) / scan.numel(),
        "encoding": sum(float((a - b) ** 2) for a, b in zip(code.flatten(), second.flatten())) / code.numel(),
        "real": float(functional.binary_cross_entropy(chances[0], torch.ones(3))),
        "generated": float(functional.binary_cross_entropy(chances[1], torch.zeros(3))),
    }
    assert terms == pytest.approx(expected, rel=1e-4)


def _train(network: GANomaly, batches: int, after: Any = None) -> None:
    optimizers = {
        "generator": torch.optim.Adam(parameters_of(network, *GENERATOR), 1e-3, (0.5, 0.999)),
        "discriminator": torch.optim.Adam(parameters_of(network, "discriminator"), 1e-3, (0.5, 0.999)),
    }
    descends = {"generator": ["adversarial", "context", "encoding"], "discriminator": ["real", "generated"]}
    PhasedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": _scan()}] * batches,
        network=network,
        optimizer=NamedOptimizers(**optimizers),
        phases=[Phase("ganomaly", ganomaly_terms, descends, WEIGHTS, after=after)],
    ).run()


def test_training_is_the_papers_loop() -> None:
    """Generator's backward and step, then the discriminator's on detached reconstructions, of one forward pass."""
    network = _network()
    other = copy.deepcopy(network)
    _train(network, 3)
    own = [parameter for name in GENERATOR for parameter in other.get_submodule(name).parameters()]
    generator = torch.optim.Adam(own, 1e-3, (0.5, 0.999))
    discriminator = torch.optim.Adam(other.discriminator.parameters(), 1e-3, (0.5, 0.999))
    for _ in range(3):
        scan = _scan() * 2 - 1
        code = other.encoder(scan)
        again = other.decoder(code)
        second = other.second_encoder(again)
        real, generated = other.discriminator(scan)[0], other.discriminator(again.detach())[0]
        loss_d = 0.5 * (
            functional.binary_cross_entropy_with_logits(real, torch.ones(3))
            + functional.binary_cross_entropy_with_logits(generated, torch.zeros(3))
        )
        features = other.discriminator(scan)[1].detach(), other.discriminator(again)[1]
        loss_g = (
            functional.mse_loss(*features) + 50 * functional.l1_loss(again, scan) + functional.mse_loss(code, second)
        )
        # what the discriminator's gradient would get of the generator's loss is zeroed before its own
        gradients = torch.autograd.grad(loss_d, list(other.discriminator.parameters()), retain_graph=True)
        generator.zero_grad()
        loss_g.backward()
        for parameter, gradient in zip(other.discriminator.parameters(), gradients):
            parameter.grad = gradient
        generator.step()
        discriminator.step()
    for (name, one), two in zip(network.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)


def test_decoder_learns_from_the_second_code_and_the_second_encoder_from_nothing_else() -> None:
    network = _network()
    terms = ganomaly_terms(network, {"image": _scan()})
    last = network.decoder.trunk[0].weight
    second = network.second_encoder.trunk[0].weight

    def reaches(term: str, parameter: Any) -> bool:
        (gradient,) = torch.autograd.grad(terms[term], [parameter], retain_graph=True, allow_unused=True)
        return gradient is not None and bool(gradient.abs().max() > 0)

    assert reaches("encoding", last) and reaches("adversarial", last) and reaches("context", last)
    assert reaches("encoding", second)
    assert not reaches("adversarial", second) and not reaches("context", second)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("reduction", ["mean", "max"])
@torch.no_grad()
def test_score_is_the_mean_squared_distance_of_the_codes(spatial_dims: int, reduction: str) -> None:
    network, image = _network(spatial_dims, reduction=reduction).eval(), _scan(spatial_dims)
    anomaly_map = network(image)
    again, code, second = network.rebuild(2 * image - 1)
    expected = torch.stack([((one - two) ** 2).sum() / 5 for one, two in zip(code, second)])
    torch.testing.assert_close(network.pool(anomaly_map), expected, rtol=1e-4, atol=1e-8)
    residual = (again - (2 * image - 1)).abs()[:, 0] / 2
    for index in range(3):  # the map is the residual but for its scale
        one, two = anomaly_map[index, 0].flatten(), residual[index].flatten()
        assert float(torch.corrcoef(torch.stack([one, two]))[0, 1]) > 0.9999


@torch.no_grad()
def test_both_errors_count_alike_in_deviations_of_normal_scans() -> None:
    network = _network(score="both", reduction=0.05).eval()
    scans = torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))
    for part in scans.split(3):
        network.collect(part)
    network.fit()
    residual, distance = network.errors(scans)
    pooled = network.pool(residual)
    expected = pooled / pooled.std(correction=0) + distance / distance.std(correction=0)
    torch.testing.assert_close(network.pool(network(scans)) / pooled.std(correction=0), expected, rtol=1e-3, atol=1e-4)
    assert "image_normality.mean" not in _network(score="latent").state_dict(), "older files have none"


@torch.no_grad()
def test_residual_score_is_the_absolute_residual() -> None:
    network, image = _network(score="residual", in_channels=2).eval(), _scan(channels=2)
    expected = (network.reconstruct(image) - image).abs().mean(1, keepdim=True)
    torch.testing.assert_close(network(image), expected)


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_scoring_neither_follows_nor_needs_the_batch(norm: str) -> None:
    """The public code scores in train mode: statistics of the test batch, and the running ones move."""
    network, image = _network(norm=norm), _scan()
    _train(network, 2)
    network.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        together = network(image)
        torch.testing.assert_close(together[1:2], network(image[1:2]), rtol=1e-4, atol=1e-7)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_discriminator_that_has_won_starts_anew() -> None:
    network = _network()
    with torch.no_grad():
        network.discriminator.head.weight.fill_(9.0)  # type: ignore[operator]
    restart = RestartDiscriminator(1e-5)
    restart(network, {"real": 1e-3, "generated": 0.0, "context": 0.0})
    assert float(network.discriminator.head.weight.detach().min()) == 9.0  # type: ignore[operator]
    encoder = network.encoder.head[0].weight.clone()  # type: ignore[operator]
    restart(network, {"real": 1e-6, "generated": 1e-6, "context": 3.0})
    assert float(network.discriminator.head.weight.abs().max()) < 0.2  # type: ignore[operator]
    assert torch.equal(network.encoder.head[0].weight, encoder)  # type: ignore[arg-type]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_scripted_it_gives_the_same_map(spatial_dims: int) -> None:
    network, image = _network(spatial_dims).eval(), _scan(spatial_dims)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)


def test_bad_arguments_are_reported() -> None:
    with pytest.raises(InputError, match=r"too small to be halved: image_size \(expected even edges of at least 8"):
        _network(image_size=6)
    with pytest.raises(InputError, match=r"too small to be halved: image_size .*found \[16, 15\]"):
        _network(image_size=[16, 15])
    with pytest.raises(ValueError, match="score must be one of"):
        _network(score="rec")
    with pytest.raises(ValueError, match="norm must be one of"):
        _network(norm="spectral")

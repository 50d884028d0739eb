"""AnoGAN: terms, phases, search and score against the paper's plain formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from medad_plugins.engines import NamedOptimizers, Phase, PhasedTrainer, parameters_of
from medad_plugins.errors import InputError
from medad_plugins.methods.anogan import AnoGAN, anogan_discriminator, anogan_generator
from medad_plugins.methods.anogan.latent_search import search_latents

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _network(spatial_dims: int = 2, **arguments: Any) -> AnoGAN:
    torch.manual_seed(0)
    return AnoGAN(
        spatial_dims, **{"image_size": 16, "width": 4, "latent_size": 5, "steps": 4, "rate": 0.05, **arguments}
    )


def _scan(spatial_dims: int = 2, batch: int = 3, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _absolute_sum(one: Tensor, other: Tensor) -> float:
    return sum(abs(a - b) for a, b in zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))


def _plain_search(network: AnoGAN, scan: Tensor, first: Tensor) -> Tensor:
    """The paper's descent for one scan ``(C, *spatial)`` of -1..1, with PyTorch's own Adam."""
    latent = first.clone()[None].requires_grad_(True)
    adam = torch.optim.Adam([latent], network.rate)
    for _ in range(network.steps):
        generated = network.generator(latent)
        residual = (scan[None] - generated).abs().sum()
        features = (network.discriminator(scan[None])[1] - network.discriminator(generated)[1]).abs().sum()
        adam.zero_grad()
        ((1 - network.weight) * residual + network.weight * features).backward()
        adam.step()
    return latent.detach()[0]


# networks


def test_layers_are_the_papers() -> None:
    network = AnoGAN(2, 1, 64, steps=1)
    convs = [m for m in network.discriminator.trunk.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [(1, 64), (64, 128), (128, 256), (256, 512)]
    layers = [m for m in network.generator.trunk.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels) for c in layers] == [(512, 256), (256, 128), (128, 64), (64, 1)]
    norms = [m for m in network.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3, "all but the first"
    features = network.discriminator(torch.zeros(2, 1, 64, 64))[1]
    assert features.shape == (2, 512, 4, 4), "the last convolution's"
    assert float(network.starts.abs().max()) <= 1


@BOTH
@torch.no_grad()
def test_shapes(spatial_dims: int) -> None:
    network, image = _network(spatial_dims, in_channels=2).eval(), _scan(spatial_dims, channels=2)
    assert network(image).shape == (3, 1, *[16] * spatial_dims)
    assert network.reconstruct(image).shape == image.shape


# terms and phases


def _cross_entropy(logits: Tensor, is_real: bool) -> float:
    chances = [1 / (1 + math.exp(-value)) for value in logits.tolist()]
    return -sum(math.log(p if is_real else 1 - p) for p in chances) / len(chances)


@BOTH
@torch.no_grad()
def test_terms_are_cross_entropies(spatial_dims: int) -> None:
    network, image = _network(spatial_dims).eval(), _scan(spatial_dims)
    torch.manual_seed(6)
    terms = {name: float(value) for name, value in anogan_discriminator(network, {"image": image}).items()}
    torch.manual_seed(6)
    terms |= {name: float(value) for name, value in anogan_generator(network, {"image": image}).items()}
    torch.manual_seed(6)
    generated = network.discriminator(network.generator(2 * torch.rand(3, 5) - 1))[0]
    real = network.discriminator(2 * image - 1)[0]
    expected = {"real": _cross_entropy(real, True), "generated": _cross_entropy(generated, False)}
    # not saturating: log D of generated scans is raised, rather than log(1 - D) lowered
    assert terms == pytest.approx({**expected, "adversarial": _cross_entropy(generated, True)}, rel=1e-4)


def _changes(repeat: int) -> tuple[list[set[str]], list[int]]:
    """Which parts' weights changed at each iteration, and steps of the generator's optimiser after each."""
    network = _network()
    optimizers = NamedOptimizers(
        **{name: torch.optim.Adam(parameters_of(network, name), 1e-3) for name in ("discriminator", "generator")}
    )
    trainer = PhasedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": _scan()}] * 2,
        network=network,
        optimizer=optimizers,
        phases=[
            Phase("discriminator", anogan_discriminator, "discriminator"),
            Phase("generator", anogan_generator, "generator", repeat=repeat),
        ],
    )
    changed: list[set[str]] = []
    steps: list[int] = []
    before = {name: value.detach().clone() for name, value in network.named_parameters()}

    def note(_: object) -> None:
        now = dict(network.named_parameters())
        changed.append({name.split(".")[0] for name in now if not torch.equal(now[name], before[name])})
        before.update({name: value.detach().clone() for name, value in now.items()})
        (state, *_) = optimizers["generator"].state.values()
        steps.append(int(state["step"]))

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return changed, steps


@pytest.mark.parametrize("repeat", [1, 2])
def test_discriminator_and_generator_take_turns(repeat: int) -> None:
    changed, steps = _changes(repeat)
    assert changed == [{"discriminator", "generator"}] * 2
    assert steps == [repeat, 2 * repeat]


# the search


@BOTH
@pytest.mark.parametrize("weight", [0.1, 0.6])
def test_search_is_adams_on_both_sums(spatial_dims: int, weight: float) -> None:
    network, image = _network(spatial_dims, weight=weight).eval(), _scan(spatial_dims)
    with torch.no_grad():
        found = network.invert(image)
    for case, latent in zip(image * 2 - 1, found):
        torch.testing.assert_close(latent, _plain_search(network, case, network.starts[0]), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_search_of_a_known_value_ends_at_its_lowest() -> None:
    wanted = torch.tensor([[0.5, -0.3], [3.0, 1.0]])
    found = search_latents(lambda z: (z - wanted).square().sum(1), torch.zeros(2, 2), 800, 0.02)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)
    assert torch.equal(search_latents(lambda z: z.sum(1), wanted, 0, 0.1), wanted)


@torch.no_grad()
def test_search_begins_at_the_best_start() -> None:
    network, image = _network(starts=6, steps=0).eval(), _scan()
    scan, generated = image * 2 - 1, network.generator(network.starts)
    features, of_generated = network.discriminator(scan)[1], network.discriminator(generated)[1]
    for index in range(3):
        values = [
            0.9 * _absolute_sum(scan[index], generated[k]) + 0.1 * _absolute_sum(features[index], of_generated[k])
            for k in range(6)
        ]
        assert torch.equal(network.invert(image)[index], network.starts[values.index(min(values))])


@torch.no_grad()
def test_steps_bring_the_generated_scan_nearer() -> None:
    image = _scan()
    scores = []
    for steps in (0, 30):
        network = _network(steps=steps, starts=4).eval()
        scores.append(network.pool(network(image)))
    assert bool((scores[1] < scores[0]).all())


@BOTH
@pytest.mark.parametrize("score", ["combined", "residual"])
def test_a_scan_has_one_map(spatial_dims: int, score: str) -> None:
    """Whatever the run, the batch and the place in it; and gradients may be on or off around it."""
    network, image = _network(spatial_dims, starts=3, score=score).eval(), _scan(spatial_dims)
    with torch.no_grad():
        expected = network(image)
        torch.manual_seed(99)
        assert torch.equal(network(image), expected)
        torch.testing.assert_close(network(image[2:]), expected[2:], rtol=1e-4, atol=1e-5)
        mates = torch.cat([torch.zeros_like(image[:1]), image[:1], torch.ones_like(image[:1])])
        torch.testing.assert_close(network(mates)[1:2], expected[:1], rtol=1e-4, atol=1e-5)
    again = network(image)
    assert torch.equal(again, expected) and not again.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@torch.no_grad()
def test_frozen_parts_pass_gradients_and_statistics_stay() -> None:
    network, image = _network().eval(), _scan()
    expected, before = network(image), {name: value.clone() for name, value in network.state_dict().items()}
    for parameter in network.parameters():  # as a phase leaves them
        parameter.requires_grad_(False)
    assert torch.equal(network(image), expected)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# score


@BOTH
@pytest.mark.parametrize(("reduction", "weight"), [("mean", 0.1), ("max", 0.5)])
@torch.no_grad()
def test_score_is_both_sums_for_each_pixel(spatial_dims: int, reduction: str, weight: float) -> None:
    network, image = _network(spatial_dims, reduction=reduction, weight=weight).eval(), _scan(spatial_dims)
    scores, maps = network.pool(network(image)), network(image)
    scan, generated = image * 2 - 1, network.reconstruct(image) * 2 - 1
    features, of_generated = network.discriminator(scan)[1], network.discriminator(generated)[1]
    for index in range(3):
        residual, difference = (
            _absolute_sum(scan[index], generated[index]),
            _absolute_sum(features[index], of_generated[index]),
        )
        expected = ((1 - weight) * residual + weight * difference) / scan[index].numel()
        assert float(scores[index]) == pytest.approx(expected, rel=1e-3)
    pair = torch.stack([maps[0, 0].flatten(), (scan - generated).abs()[0, 0].flatten()])
    assert float(torch.corrcoef(pair)[0, 1]) > 0.9999


@torch.no_grad()
def test_residual_score_is_the_map_as_it_is() -> None:
    network, image = _network(score="residual", in_channels=2).eval(), _scan(channels=2)
    expected = (network.reconstruct(image) - image).abs().mean(1, keepdim=True)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_autocast_does_not_change_the_search() -> None:
    network, image = _network().eval(), _scan()
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
    assert found.dtype == torch.float32 and torch.equal(found, network(image))


def test_bad_arguments_are_reported() -> None:
    with pytest.raises(InputError, match="too small to be halved: image_size"):
        _network(image_size=7)
    for arguments in ({"score": "sum"}, {"weight": 1.5}, {"latent_size": 0}, {"starts": 0}, {"steps": -1}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            _network(**arguments)

"""f-AnoGAN: networks, terms of each phase, stages and score against the paper's plain formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from medad_plugins.engines import NamedOptimizers, Phase, PhasedTrainer, parameters_of
from medad_plugins.errors import InputError
from medad_plugins.methods.f_anogan import FAnoGAN, FAnoGANEncoderTerms, f_anogan_critic, f_anogan_generator
from medad_plugins.networks import ResidualCritic, ResidualGenerator


def _network(spatial_dims: int = 2, **arguments: Any) -> FAnoGAN:
    torch.manual_seed(0)
    return FAnoGAN(spatial_dims, **{"image_size": 16, "width": 4, "latent_size": 5, **arguments})


def _scan(spatial_dims: int = 2, batch: int = 3, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _mean_square(one: Tensor, other: Tensor) -> float:
    pairs = zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)
    return sum((a - b) ** 2 for a, b in pairs) / one.numel()


# networks


def test_layers_are_the_papers() -> None:
    network = FAnoGAN(2, 1, 64)
    convs = [m for m in network.critic.trunk.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [(c.in_channels, c.out_channels) for c in convs] == [
        (1, 64),
        *[(64, 64), (64, 128)],
        *[(128, 128), (128, 256)],
        *[(256, 256), (256, 512)],
        *[(512, 512), (512, 512)],
    ]
    assert network.critic.trunk.features == 512 * 4 * 4 == network.critic.head.in_features
    layers = [m for m in network.generator.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [(c.in_channels, c.out_channels) for c in layers][::2] == [
        (512, 512),
        (512, 256),
        (256, 128),
        (128, 64),
        (64, 1),
    ]
    # a norm of each case alone in the critic, batch norm in the two others
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.critic.modules())
    for part in (network.generator, network.encoder):
        assert any(isinstance(m, nn.BatchNorm2d) for m in part.modules())
        assert not any(isinstance(m, nn.GroupNorm) for m in part.modules())
    assert [type(layer).__name__ for layer in network.encoder] == ["CriticTrunk", "Linear", "Tanh"]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_shapes(spatial_dims: int) -> None:
    network, image = _network(spatial_dims, in_channels=2), _scan(spatial_dims, channels=2)
    again, own, other = network(image)
    assert again.shape == image.shape and own.shape == other.shape == (3, network.critic.trunk.features)
    assert float(again.detach().abs().max()) <= 1
    with torch.no_grad():
        assert network.eval()(image).shape == (3, 1, *[16] * spatial_dims)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_block_halves_by_means_and_doubles_by_copies(spatial_dims: int) -> None:
    """With the paths off, the shortcuts alone."""
    critic, generator = ResidualCritic(spatial_dims, 1, 8, 4), ResidualGenerator(spatial_dims, 1, 8, 5, 4)
    down, up = critic.trunk.layers[1], generator.layers[2]
    for block in (down, up):
        last = [layer for layer in block.path if hasattr(layer, "weight") and layer.weight.dim() > 1][-1]  # type: ignore[union-attr]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    weight = down.shortcut[1].weight.flatten(1)  # type: ignore[index,union-attr]
    given = torch.rand(1, 4, *[8] * spatial_dims)
    pooled = given
    for axis in range(2, 2 + spatial_dims):
        even, odd = torch.arange(0, 8, 2), torch.arange(1, 8, 2)
        pooled = (pooled.index_select(axis, even) + pooled.index_select(axis, odd)) / 2
    expected = torch.einsum("oi,bi...->bo...", weight, pooled)
    torch.testing.assert_close(down(given), expected, rtol=1e-4, atol=1e-5)

    given = torch.rand(1, 8, *[4] * spatial_dims)
    expected = torch.einsum("oi,bi...->bo...", up.shortcut[1].weight.flatten(1), given)  # type: ignore[index,union-attr]
    for axis in range(2, 2 + spatial_dims):
        expected = expected.repeat_interleave(2, axis)
    torch.testing.assert_close(up(given), expected, rtol=1e-4, atol=1e-5)


def test_a_critic_with_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="must not have batch norm"):
        ResidualCritic(2, 1, 16, 4, norm="batch")


def test_a_critics_rating_does_not_depend_on_batch_mates_in_train_mode() -> None:
    network, image = _network().train(), _scan()
    torch.testing.assert_close(network.critic(image)[0][1:2], network.critic(image[1:2])[0], rtol=1e-4, atol=1e-5)


# terms


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_critics_terms(spatial_dims: int) -> None:
    network, image = _network(spatial_dims), _scan(spatial_dims)
    torch.manual_seed(6)
    terms = {name: float(v.detach()) for name, v in f_anogan_critic(network, {"image": image}).items()}
    torch.manual_seed(6)
    scan = 2 * image - 1
    generated = network.generator(torch.randn(3, 5)).detach()
    shares = torch.rand(3, *[1] * (1 + spatial_dims))
    penalty = 0.0
    for index in range(3):
        point = (scan[index] + shares[index] * (generated[index] - scan[index]))[None].requires_grad_(True)
        (gradient,) = torch.autograd.grad(network.critic(point)[0][0], point)
        norm = sum(value**2 for value in gradient.flatten().tolist()) ** 0.5
        penalty += (norm - 1) ** 2 / 3
    expected = {"real": -float(network.critic(scan)[0].mean()), "generated": float(network.critic(generated)[0].mean())}
    assert terms == pytest.approx({**expected, "penalty": penalty}, rel=1e-3, abs=1e-5)


def test_generators_term_wants_high_ratings() -> None:
    network, image = _network(), _scan()
    torch.manual_seed(6)
    found = float(f_anogan_generator(network, {"image": image})["adversarial"].detach())
    torch.manual_seed(6)
    assert found == pytest.approx(-float(network.critic(network.generator(torch.randn(3, 5)))[0].mean()), rel=1e-4)


@pytest.mark.parametrize("mode", ["ziz", "izi", "izif"])
@torch.no_grad()
def test_encoders_terms_are_means(mode: str) -> None:
    network, image = _network().eval(), _scan()
    torch.manual_seed(6)
    terms = {name: float(value) for name, value in FAnoGANEncoderTerms(mode)(network, {"image": image}).items()}
    torch.manual_seed(6)
    latents, scan = torch.randn(3, 5), 2 * image - 1
    again = network.generator(network.encoder(scan))
    expected = {"image": _mean_square(again, scan)}
    if mode == "izif":
        expected["feature"] = _mean_square(network.critic(again)[1], network.critic(scan)[1])
    if mode == "ziz":
        expected = {"latent": _mean_square(network.encoder(network.generator(latents)), latents)}
    assert terms == pytest.approx(expected, rel=1e-4)


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="mode must be one of"):
        FAnoGANEncoderTerms("zi")


# stages


def _train(network: FAnoGAN, iterations: int, gan_iterations: int, mode: str = "izif") -> list[list[str]]:
    """Which parts had changed after each iteration."""
    rates = {"critic": 1e-3, "generator": 1e-3, "encoder": 1e-3}
    phases = [
        Phase("critic", f_anogan_critic, "critic", {"penalty": 10.0}, last=gan_iterations),
        Phase("generator", f_anogan_generator, "generator", every=5, offset=4, last=gan_iterations),
        Phase(
            "encoder",
            FAnoGANEncoderTerms(mode),
            "encoder",
            first=gan_iterations + 1,
            in_eval=["generator", "critic"],
        ),
    ]
    trainer = PhasedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": _scan()}] * iterations,
        network=network,
        optimizer=NamedOptimizers(
            **{name: torch.optim.Adam(parameters_of(network, name), rate) for name, rate in rates.items()}
        ),
        phases=phases,
    )
    changed: list[list[str]] = []
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def note(_: object) -> None:
        now = network.state_dict()
        names = {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}
        changed.append(sorted(names & rates.keys()))
        before.update({name: value.clone() for name, value in now.items()})

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return changed


def test_five_critic_steps_for_one_of_the_generator_then_the_encoder_alone() -> None:
    network = _network()
    changed = _train(network, 8, 6)
    # the generator's running statistics follow what the critic is shown, as in the paper's training mode
    assert all("critic" in parts for parts in changed[:6])
    assert changed[6:] == [["encoder"], ["encoder"]], "neither weights nor statistics of the frozen parts"


def test_the_generator_learns_at_the_fifth_iteration_only() -> None:
    network = _network()
    weights = [network.generator.layers[0].weight.detach().clone()]  # type: ignore[operator]
    for iterations in (4, 5):
        network = _network()
        torch.manual_seed(2)
        _train(network, iterations, 100)
        weights.append(network.generator.layers[0].weight.detach().clone())  # type: ignore[operator]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


# score


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("reduction", "kappa"), [("mean", 1.0), ("max", 0.3)])
@torch.no_grad()
def test_score_is_residual_plus_kappa_features(spatial_dims: int, reduction: str, kappa: float) -> None:
    network, image = _network(spatial_dims, reduction=reduction, kappa=kappa).eval(), _scan(spatial_dims)
    scores = network.pool(network(image))
    again, own, other = network.training_output(image)
    for index in range(3):
        expected = _mean_square(again[index], 2 * image[index] - 1) + kappa * _mean_square(own[index], other[index])
        assert float(scores[index]) == pytest.approx(expected, rel=1e-4)
    residual = (network.reconstruct(image) - image).abs().mean(1)
    one, two = network(image)[0, 0].flatten(), residual[0].flatten()
    assert float(torch.corrcoef(torch.stack([one, two]))[0, 1]) > 0.9999


@torch.no_grad()
def test_residual_score_and_batch_mates() -> None:
    network, image = _network(score="residual", in_channels=2).eval(), _scan(channels=2)
    expected = (network.reconstruct(image) - image).abs().mean(1, keepdim=True)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(network(image)[1:2], network(image[1:2]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_scripted_it_gives_the_same_map(spatial_dims: int) -> None:
    network, image = _network(spatial_dims).eval(), _scan(spatial_dims)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-4, atol=1e-6)


def test_bad_arguments_are_reported() -> None:
    with pytest.raises(InputError, match="too small to be halved: image_size"):
        _network(image_size=7)
    for arguments in ({"score": "izif"}, {"encoder_output": "relu"}, {"latent_size": 0}, {"kappa": -1.0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            _network(**arguments)

"""Noised in part and cleaned again: the chains against plain loops, and what a map must not depend on."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from noise_schedules import linear_products
from torch import Tensor, nn

from medad_plugins.diffusion import NoisingBatch, box_grid
from medad_plugins.engines import ModelFile, save_model
from medad_plugins.errors import InputError
from medad_plugins.losses import DenoisingTerms
from medad_plugins.methods.ddpm import DDPM

BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])
SMALL: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "attention_levels": (), "blocks": 1, "steps": 2}


def _network(spatial_dims: int = 2, **arguments: Any) -> DDPM:
    torch.manual_seed(0)
    network = DDPM(spatial_dims, **{**SMALL, **arguments})
    # the last convolutions start at zero
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def _scan(spatial_dims: int = 2, batch: int = 3) -> Tensor:
    return torch.rand(batch, 1, *[8] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _plain_chain(network: DDPM, scan: Tensor, times: list[int], is_ddim: bool, seed: int = 0) -> Tensor:
    """Ho et al.'s algorithm 2 or Song et al.'s equation 12 between the given times; one case at a time."""
    products, cases = linear_products(), []
    for case in scan:
        generator = torch.Generator().manual_seed(seed)
        a = products[times[0]]
        x = math.sqrt(a) * case + math.sqrt(1 - a) * torch.randn(case.shape, generator=generator)
        for index, t in enumerate(times):
            a, b = products[t], products[times[index + 1]] if index + 1 < len(times) else 1.0
            noise = network.unet(x[None], torch.tensor([t]))[0]
            clean = ((x - math.sqrt(1 - a) * noise) / math.sqrt(a)).clamp(-1, 1)
            if is_ddim:
                x = math.sqrt(b) * clean + math.sqrt(1 - b) * (x - math.sqrt(a) * clean) / math.sqrt(1 - a)
                continue
            beta = 1 - a / b
            x = (math.sqrt(b) * beta * clean + math.sqrt(1 - beta) * (1 - b) * x) / (1 - a)
            if b < 1:
                x = x + math.sqrt(beta * (1 - b) / (1 - a)) * torch.randn(case.shape, generator=generator)
        cases.append(x)
    return torch.stack(cases)


@BOTH
@pytest.mark.parametrize(
    ("level", "steps", "times"),
    [
        (6, 6, [5, 4, 3, 2, 1, 0]),
        (250, 4, [249, 166, 83, 0]),
        (1000, 3, [999, 500, 0]),
        (500, 1, [499]),
    ],
)
@pytest.mark.parametrize("eta", [0.0, 1.0])
@torch.no_grad()
def test_full_and_strided_chains_are_those_of_a_plain_loop(
    spatial_dims: int, level: int, steps: int, times: list[int], eta: float
) -> None:
    network, image = _network(spatial_dims, level=level, steps=steps, eta=eta), _scan(spatial_dims)
    assert network.scheduler.timesteps.tolist() == times
    expected = (_plain_chain(network, image * 2 - 1, times, eta == 0) + 1) / 2
    torch.testing.assert_close(network.reconstruct(image), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network(image), (expected - image).abs(), rtol=1e-3, atol=1e-4)


class _Knows(nn.Module):
    """Predicts exactly the noise of images that it knows, or these images."""

    def __init__(self, clean: Tensor, tells_noise: bool) -> None:
        super().__init__()
        self.clean, self.tells_noise = clean, tells_noise
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, times: Tensor) -> Tensor:
        self.seen.append(x)
        product = linear_products()[int(times[0])]
        noise = (x - math.sqrt(product) * self.clean) / math.sqrt(1 - product)
        return noise if self.tells_noise else self.clean.expand_as(x)


@BOTH
@pytest.mark.parametrize("predicts", ["epsilon", "sample"])
@pytest.mark.parametrize(("steps", "eta"), [(1, 1.0), (3, 0.0), (40, 1.0)])
@torch.no_grad()
def test_a_perfect_network_gives_the_normal_scan_and_the_rest_is_the_map(
    spatial_dims: int, predicts: str, steps: int, eta: float
) -> None:
    image = _scan(spatial_dims)
    network = _network(spatial_dims, level=40, steps=steps, eta=eta, predicts=predicts)
    network.unet = _Knows(torch.full_like(image[:1], -0.5), predicts == "epsilon")
    torch.testing.assert_close(network.reconstruct(image), torch.full_like(image, 0.25), rtol=0, atol=1e-4)
    torch.testing.assert_close(network(image), (image - 0.25).abs(), rtol=0, atol=1e-4)


@BOTH
@pytest.mark.parametrize("arguments", [{}, {"eta": 0.0}, {"noise": "coarse"}, {"noise": "simplex"}, {"boxes": 2}])
@torch.no_grad()
def test_a_scan_has_one_map(spatial_dims: int, arguments: dict[str, Any]) -> None:
    """Whatever the run, the batch and the place in it, and whatever was drawn before."""
    network, image = _network(spatial_dims, **arguments), _scan(spatial_dims)
    expected = network(image)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert torch.equal(network(image), expected)
    assert torch.equal(torch.random.get_rng_state(), state), "a training goes on with the same numbers"
    torch.testing.assert_close(network(image[2:]), expected[2:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(image.flip(0)).flip(0), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_maps_of_several_draws_are_averaged() -> None:
    network, image = _network(draws=3, level=300), _scan()
    times = network.scheduler.timesteps.tolist()
    single = [(_plain_chain(network, image * 2 - 1, times, False, seed) + 1) / 2 for seed in range(3)]
    expected = sum(((again - image) ** 2).mean(1, keepdim=True) for again in single) / 3
    network.difference.residual = "l2"
    torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network.reconstruct(image), torch.stack(single).mean(0), rtol=1e-3, atol=1e-4)


@BOTH
@torch.no_grad()
def test_median_filter(spatial_dims: int) -> None:
    image = torch.zeros(1, 1, *[8] * spatial_dims)
    image[(0, 0, *[4] * spatial_dims)] = 1.0
    maps = []
    for median in (1, 3):
        network = _network(spatial_dims, median=median, steps=1, predicts="sample")
        network.unet = _Knows(torch.full_like(image, -1.0), False)
        maps.append(float(network(image).max()))
    assert maps == [1.0, 0.0], "one pixel alone is no lesion"
    everywhere = network(torch.ones_like(image))
    assert torch.equal(everywhere, torch.ones_like(everywhere)), "borders are not darkened"


# boxes


@BOTH
@torch.no_grad()
def test_boxes_are_noised_one_at_a_time_and_pasted(spatial_dims: int) -> None:
    image = _scan(spatial_dims, 1)
    network = _network(spatial_dims, boxes=2, steps=1, level=500, predicts="sample")
    knows = _Knows(torch.full_like(image, 0.2), False)
    network.unet = knows
    torch.testing.assert_close(network.reconstruct(image), torch.full_like(image, 0.6))
    assert len(knows.seen) == 2**spatial_dims
    product, scan = linear_products()[499], image * 2 - 1
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    noisy = math.sqrt(product) * scan + math.sqrt(1 - product) * noise
    covered = torch.zeros_like(image)
    for seen in knows.seen:
        changed = seen != scan
        assert int(changed.sum()) == 4**spatial_dims
        torch.testing.assert_close(seen[changed], noisy[changed], rtol=1e-4, atol=1e-5)
        covered += changed
    assert bool((covered == 1).all()), "with the same noise for all boxes, every pixel once"


def test_grid_of_boxes() -> None:
    grid = box_grid((7, 4), 2)
    assert grid.shape == (4, 7, 4) and bool((grid.sum(0) == 1).all())
    assert sorted(grid.flatten(1).sum(1).tolist()) == [6, 6, 8, 8]
    assert bool(box_grid((3, 3, 3), 1).all())
    with pytest.raises(InputError, match=r"so many boxes: boxes \(expected 1 to 4, the scan's .*, found 5\)"):
        box_grid((7, 4), 5)


@BOTH
@pytest.mark.parametrize("predicts", ["epsilon", "sample"])
def test_in_training_one_box_is_noised_and_only_it_counts(spatial_dims: int, predicts: str) -> None:
    network, image = _network(spatial_dims, boxes=2, predicts=predicts).train(), _scan(spatial_dims, 6)
    seen: list[Tensor] = []
    network.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predicted, target = network.training_output(image)
    noised = seen[0] != image * 2 - 1
    counts = noised.flatten(1).sum(1).tolist()
    assert counts == [4**spatial_dims] * 6, "a quarter of an image, an eighth of a volume"
    assert len({tuple(case.flatten().tolist()) for case in noised}) > 1, "drawn for each case"
    assert torch.equal(predicted[~noised], target[~noised])
    assert not torch.isclose(predicted[noised], target[noised]).all()


# training


@BOTH
@pytest.mark.parametrize("predicts", ["epsilon", "sample"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
@torch.no_grad()
def test_term_is_the_mean_difference_from_the_target(spatial_dims: int, predicts: str, norm: str) -> None:
    network, image = _network(spatial_dims, predicts=predicts).train(), _scan(spatial_dims)
    torch.manual_seed(4)
    found = float(DenoisingTerms(norm)(network, {"image": image})["denoising"])
    torch.manual_seed(4)
    noise, times = torch.randn(image.shape), torch.randint(0, 1000, (3,))
    total = 0.0
    for case, own, time in zip(image * 2 - 1, noise, times.tolist()):
        product = linear_products()[time]
        noisy = math.sqrt(product) * case + math.sqrt(1 - product) * own
        predicted = network.unet(noisy[None], torch.tensor([time]))[0]
        wanted = own if predicts == "epsilon" else case
        pairs = zip(predicted.flatten().tolist(), wanted.flatten().tolist(), strict=True)
        total += sum(abs(a - b) if norm == "l1" else (a - b) ** 2 for a, b in pairs)
    assert found == pytest.approx(total / image.numel(), rel=1e-3)


def test_only_the_first_times_may_be_trained() -> None:
    torch.manual_seed(0)
    times = NoisingBatch(10).get_timesteps(torch.zeros(2000, 1))
    assert sorted(set(times.tolist())) == list(range(10))
    assert _network(trained_timesteps=300).training_noise.num_train_timesteps == 300


def test_model_files_from_before_the_key_was_renamed_still_load(tmp_path: Path) -> None:
    settings = {"network": {**SMALL, "level": 100, "taught_timesteps": 300}}
    save_model(tmp_path / "model.pt", _network(level=100, trained_timesteps=300), "ddpm", settings)
    assert ModelFile(tmp_path / "model.pt", "ddpm").rebuild(DDPM).training_noise.num_train_timesteps == 300


@BOTH
def test_a_step_of_training_lowers_the_term(spatial_dims: int) -> None:
    network, image = _network(spatial_dims, predicts="sample").train(), _scan(spatial_dims)
    optimizer, terms = torch.optim.Adam(network.parameters(), 0.01), []
    for _ in range(30):
        torch.manual_seed(0)
        term = DenoisingTerms("l2")(network, {"image": image})["denoising"]
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        terms.append(float(term.detach()))
    assert terms[-1] < 0.8 * terms[0]


# the network


@torch.no_grad()
def test_maps_stay_float32_under_autocast() -> None:
    network, image = _network(), _scan()
    with torch.autocast("cpu", torch.bfloat16):
        found = network(image)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, network(image), rtol=0.1, atol=0.05)


@BOTH
@torch.no_grad()
def test_monais_network_does_as_well(spatial_dims: int) -> None:
    pytest.importorskip("einops", reason="MONAI's diffusion network needs it")
    network, image = _network(spatial_dims, unet="monai", attention_levels=(1,)), _scan(spatial_dims)
    times = network.scheduler.timesteps.tolist()
    expected = (_plain_chain(network, image * 2 - 1, times, False) + 1) / 2
    torch.testing.assert_close(network.reconstruct(image), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(importlib.util.find_spec("einops") is not None, reason="the package is here")
def test_without_its_package_monais_network_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="needs the package einops: unet; pip install einops"):
        _network(unet="monai")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"level": 1001, "trained_timesteps": 1000}, r"the level is not among the trained times: trained_timesteps"),
        (
            {"trained_timesteps": 200},
            r"not among the trained times.*expected 250, the level, to 1000, found 200",
        ),
        ({"level": 0}, r"number of steps is out of range: level \(expected 1 to 1000, found 0\)"),
        ({"steps": 251}, r"number of steps is out of range: steps \(expected 1 to 250, found 251\)"),
        ({"eta": 1.5}, r"share of the noise is not understood: eta \(expected 0 to 1, found 1.5\)"),
    ],
)
def test_what_a_user_may_get_wrong(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        _network(**arguments)


def test_bad_arguments_are_reported() -> None:
    for arguments in ({"unet": "vnet"}, {"draws": 0}, {"median": 4}, {"predicts": "v_prediction"}, {"noise": "pink"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            _network(**arguments)
    with pytest.raises(ValueError, match="norm must be 'l1' or 'l2'"):
        DenoisingTerms("l3")

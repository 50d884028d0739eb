"""cDDPM: the denoiser is told the clean scan; what comes back from several levels is averaged."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.cddpm import CDDPM

SMALL: dict[str, Any] = {
    "width": 4,
    "multipliers": (1, 2),
    "attention_levels": (),
    "blocks": 1,
    "backbone": "resnet10",
    "stages": 3,
    "condition": 6,
    "predicts": "sample",
    "schedule": "cosine",
}
BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _network(spatial_dims: int = 2, **arguments: Any) -> CDDPM:
    torch.manual_seed(0)
    network = CDDPM(spatial_dims, **{**SMALL, "levels": (100, 400), **arguments})
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def _scan(spatial_dims: int = 2, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *[16] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _product(time: int) -> float:
    """Cumulative product of the cosine schedule, as the paper that proposed it has it: betas at most 0.999."""

    def share(t: float) -> float:
        return math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2

    product = 1.0
    for t in range(time + 1):
        product *= 1 - min(0.999, 1 - share(t + 1) / share(t))
    return product


@BOTH
@torch.no_grad()
def test_map_by_plain_computation(spatial_dims: int) -> None:
    network, image = _network(spatial_dims), _scan(spatial_dims)
    generator = torch.Generator().manual_seed(0)
    encoder: Any = network.encoder
    features = encoder.taps(image)[-1]
    vector = features.flatten(2).sum(2) / features[0, 0].numel() @ encoder.last.weight.T
    vector = vector + encoder.last.bias
    rebuilt = torch.zeros_like(image)
    for level in (100, 400):
        noise = torch.randn(1, *image.shape[1:], generator=generator)
        product = _product(level - 1)
        noisy = math.sqrt(product) * (2 * image - 1) + math.sqrt(1 - product) * noise
        answer = network.unet(noisy, torch.tensor([level - 1] * 2), vector).clamp(-1, 1)
        rebuilt += (answer + 1) / 2 / 2
    torch.testing.assert_close(network.reconstruct(image), rebuilt, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(network(image), (rebuilt - image).abs(), rtol=1e-3, atol=2e-4)


@torch.no_grad()
def test_a_scan_has_one_map_whatever_its_batch() -> None:
    network, image = _network(draws=2, noise="pyramid"), _scan(batch=3)
    torch.testing.assert_close(network(image[1:]), network(image)[1:], rtol=1e-3, atol=1e-5)


class _SaysWhatItIsTold(nn.Module):
    """Takes the scan for one of the brightness that it is told."""

    def forward(self, noisy: Tensor, times: Tensor, context: Tensor) -> Tensor:
        return (context * 2 - 1).reshape([-1] + [1] * (noisy.dim() - 1)).expand_as(noisy)


class _Brightness(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        return image.flatten(1).median(1, keepdim=True).values


@BOTH
@torch.no_grad()
def test_what_is_told_is_of_the_clean_scan(spatial_dims: int) -> None:
    """Both kinds of brightness come back as they were, far noised as they are, and what differs from it is left."""
    network = _network(spatial_dims, levels=(1000,))
    network.unet, network.encoder = _SaysWhatItIsTold(), _Brightness()
    image = torch.full((2, 1, *[8] * spatial_dims), 0.25)
    image[1] = 0.75
    image[:, 0, 0] = 1.0
    found = network(image)
    torch.testing.assert_close(found[:, 0, 0].flatten(1).mean(1), torch.tensor([0.75, 0.25]))
    assert float(found[:, 0, 1:].max()) < 1e-6
    predicted, target = network.training_output(image)
    torch.testing.assert_close(predicted[:, 0, 1:], target[:, 0, 1:])


def test_encoder_and_denoiser_learn_together() -> None:
    network = _network().train()
    predicted, target = network.training_output(_scan())
    (predicted - target).abs().mean().backward()
    parameters = dict(network.named_parameters())
    for name in ("encoder.taps.conv1", "encoder.last", "unet.embed_condition.0", "unet.embed.0"):
        gradient = parameters[f"{name}.weight"].grad
        assert gradient is not None and float(gradient.abs().sum()) > 0, name


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"there is no level to noise to: levels"):
        _network(levels=())
    with pytest.raises(InputError, match=r"levels \(expected 1 to 1000, found 0\)"):
        _network(levels=(0, 100))
    with pytest.raises(InputError, match="the vector is too short: condition"):
        _network(condition=0)
    with pytest.raises(InputError, match="batch norm needs more than one case"):
        _network().training_output(_scan(batch=1))

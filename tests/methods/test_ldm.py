"""LDM: latents of unit variance, noised and cleaned, decoded, and compared with what the autoencoder alone makes."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from noise_schedules import linear_products
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.ldm import LDM, AutoencodingTerms

SMALL: dict[str, Any] = {
    "channels": (4, 4),
    "latent_channels": 2,
    "autoencoder_blocks": 1,
    "width": 4,
    "multipliers": (1, 2),
    "attention_levels": (),
    "blocks": 1,
    "level": 300,
    "steps": 2,
    "eta": 0.0,
}
BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _network(spatial_dims: int = 2, **arguments: Any) -> LDM:
    torch.manual_seed(0)
    network = LDM(spatial_dims, **{**SMALL, **arguments})
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    network.scale.fill_(3.0)
    return network.eval()


def _scan(spatial_dims: int = 2, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, *[8] * spatial_dims, generator=torch.Generator().manual_seed(1))


@BOTH
@pytest.mark.parametrize("compared", ["decoded", "scan"])
@torch.no_grad()
def test_map_by_plain_computation(spatial_dims: int, compared: str) -> None:
    network, image, products = _network(spatial_dims, compared=compared), _scan(spatial_dims), linear_products()
    coder = network.autoencoder
    latent = 3 * coder.quant_conv_mu(coder.encoder(image))
    noise = torch.randn(1, *latent.shape[1:], generator=torch.Generator().manual_seed(0))
    sample = math.sqrt(products[299]) * latent + math.sqrt(1 - products[299]) * noise
    for time, then in ((299, products[0]), (0, 1.0)):
        predicted = network.unet(sample, torch.full((2,), time))
        clean = (sample - math.sqrt(1 - products[time]) * predicted) / math.sqrt(products[time])
        sample = math.sqrt(then) * clean + math.sqrt(1 - then) * predicted
    cleaned = coder.decode(sample / 3)
    other = coder.decode(latent / 3) if compared == "decoded" else image
    torch.testing.assert_close(network.reconstruct(image), cleaned, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(network(image), (cleaned - other).abs(), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_a_scan_has_one_map_whatever_its_batch() -> None:
    network, image = _network(draws=2, noise="pyramid", eta=1.0), _scan(batch=3)
    torch.testing.assert_close(network(image[1:]), network(image)[1:], rtol=1e-3, atol=1e-5)


@torch.no_grad()
def test_latents_get_unit_variance_and_the_model_file_keeps_it() -> None:
    network, image = _network(), _scan(batch=16)
    network.set_centre(network.embed(image).mean(0))
    torch.manual_seed(3)
    drawn = torch.cat([network.sampled(image)[0] for _ in range(20)]) * network.scale
    assert float(drawn.std()) == pytest.approx(1, abs=0.05)
    other = _network()
    other.load_state_dict(network.state_dict())
    assert float(other.scale) == float(network.scale) != 3.0


@BOTH
def test_stages_by_plain_computation(spatial_dims: int) -> None:
    network, image = _network(spatial_dims).train(), _scan(spatial_dims)
    torch.manual_seed(5)
    terms = AutoencodingTerms(spatial_dims)(network, {"image": image})
    mean, deviation = network.autoencoder.encode(image)
    torch.manual_seed(5)
    latent = mean + deviation * torch.randn(mean.shape)
    divergence = (mean**2 + deviation**2 - 1 - (deviation**2).log()).sum() / 2 / len(image)
    torch.testing.assert_close(terms["residual"], (network.autoencoder.decode(latent) - image).abs().mean())
    torch.testing.assert_close(terms["divergence"], divergence)
    torch.stack(list(terms.values())).sum().backward()
    parameters = dict(network.autoencoder.named_parameters())
    for name in ("quant_conv_log_sigma", "post_quant_conv"):
        gradient = parameters[f"{name}.conv.weight"].grad
        assert gradient is not None and float(gradient.abs().sum()) > 0
    network.zero_grad()
    torch.manual_seed(5)
    predicted, target = network.training_output(image)
    torch.manual_seed(5)
    latent = 3 * (mean + deviation * torch.randn(mean.shape))
    noise, times = torch.randn(latent.shape), torch.randint(0, 1000, (2,))
    torch.testing.assert_close(target, noise)
    shares = torch.tensor([linear_products()[time] for time in times]).reshape([-1] + [1] * (spatial_dims + 1))
    noisy = shares.sqrt() * latent + (1 - shares).sqrt() * noise
    torch.testing.assert_close(predicted, network.unet(noisy.detach(), times), rtol=1e-3, atol=1e-4)
    (predicted - target).square().mean().backward()
    assert all(p.grad is None for p in network.autoencoder.parameters())
    assert any(p.grad is not None for p in network.unet.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"cannot halve the scan so often: image_size \(expected multiples of 2"):
        _network()(torch.rand(1, 1, 9, 8))
    with pytest.raises(ValueError, match="compared must be one of"):
        _network(compared="nothing")

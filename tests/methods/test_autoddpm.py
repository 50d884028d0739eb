"""AutoDDPM by its paper: the mask, and the second chain step by step; the scan itself outside the mask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from noise_schedules import linear_products
from scipy import ndimage
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.autoddpm import AutoDDPM
from medad_plugins.scorers import residual_map

SMALL: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "attention_levels": (), "blocks": 1}
BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _network(spatial_dims: int = 2, **arguments: Any) -> AutoDDPM:
    torch.manual_seed(0)
    chains = {"level": 200, "steps": 3, "filled_level": 60, "filled_steps": 3, "resamples": 2, "masked": 0.2}
    network = AutoDDPM(spatial_dims, **{**SMALL, **chains, **arguments})
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def _scan(spatial_dims: int = 2, batch: int = 3, channels: int = 1) -> Tensor:
    return torch.rand(batch, channels, *[12] * spatial_dims, generator=torch.Generator().manual_seed(1))


@BOTH
@torch.no_grad()
def test_suspicion_and_mask_by_plain_computation(spatial_dims: int) -> None:
    network = _network(spatial_dims, in_channels=2)
    cleaned, whole = _scan(spatial_dims, channels=2), _scan(spatial_dims, channels=2).roll(1, 0)
    found = network.suspicion(cleaned, whole)
    looks = residual_map(cleaned, whole, "ssim")
    for one, other, look, suspicion, mask in zip(cleaned, whole, looks, found, network.mask_of(found), strict=True):
        residual = np.abs(one.numpy() - other.numpy()).mean(0)
        expected = np.clip(residual / np.percentile(residual, 95), 0, 1) * np.clip(look[0].numpy(), 0, None)
        np.testing.assert_allclose(suspicion[0], expected, rtol=1e-4, atol=1e-6)
        binary = expected > np.percentile(expected, 80)
        painted = ndimage.binary_dilation(binary, np.ones([3] * spatial_dims))
        assert np.array_equal(mask[0].numpy(), painted) and binary.sum() < painted.sum() < painted.size


@BOTH
@torch.no_grad()
def test_second_chain_by_plain_computation(spatial_dims: int) -> None:
    """Known places are the scan's, noised as far as the step leads; steps are taken twice but for the last."""
    network, products = _network(spatial_dims), linear_products()
    scan, cleaned = _scan(spatial_dims) * 2 - 1, _scan(spatial_dims).flip(0) * 2 - 1
    mask = _scan(spatial_dims) > 0.6
    found = network.filled(scan, cleaned, mask, torch.Generator().manual_seed(5))

    generator = torch.Generator().manual_seed(5)

    def noise() -> Tensor:
        return torch.randn(1, *scan.shape[1:], generator=generator)

    def noised(image: Tensor, product: float) -> Tensor:
        return math.sqrt(product) * image + math.sqrt(1 - product) * noise()

    times = [59, 30, 0]
    assert network.filling.timesteps.tolist() == times
    sample = noised(cleaned, products[59])
    for time, then in ((59, 30), (30, 0)):
        now, next_one = products[time], products[then]
        for again in range(2):
            if again:
                sample = math.sqrt(now / next_one) * sample + math.sqrt(1 - now / next_one) * noise()
            predicted = network.unet(sample, torch.full((3,), time))
            clean = ((sample - math.sqrt(1 - now) * predicted) / math.sqrt(now)).clamp(-1, 1)
            # Ho et al.'s posterior, with what lies between both times as one step
            beta = 1 - now / next_one
            mean = math.sqrt(next_one) * beta / (1 - now) * clean
            mean = mean + math.sqrt(now / next_one) * (1 - next_one) / (1 - now) * sample
            inside = mean + math.sqrt(beta * (1 - next_one) / (1 - now)) * noise()
            sample = torch.where(mask, inside, noised(scan, next_one))
    predicted = network.unet(sample, torch.zeros(3))
    clean = ((sample - math.sqrt(1 - products[0]) * predicted) / math.sqrt(products[0])).clamp(-1, 1)
    torch.testing.assert_close(found, torch.where(mask, clean, scan), rtol=1e-3, atol=1e-4)


@BOTH
@torch.no_grad()
def test_map_is_the_residual_to_the_filled_scan_times_the_suspicion(spatial_dims: int) -> None:
    network, image = _network(spatial_dims, draws=2), _scan(spatial_dims)
    expected = torch.zeros_like(image)
    for seed in range(2):
        suspicion, filled = network._stages(image, seed)
        outside = ~network.mask_of(suspicion)
        torch.testing.assert_close(filled[outside], image[outside])
        expected += (filled - image).abs() * suspicion / 2
    torch.testing.assert_close(network(image), expected)
    assert float(expected.amax()) > 0
    torch.testing.assert_close(network(image[1:]), expected[1:], rtol=1e-3, atol=1e-6)


def test_chains_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"farther than the first: filled_level \(expected 1 to 200.*found 201\)"):
        _network(filled_level=201)
    with pytest.raises(InputError, match=r"filled_steps \(expected 1 to 60, found 61\)"):
        _network(filled_steps=61)
    with pytest.raises(ValueError, match="masked between 0 and 1"):
        _network(masked=1.0)

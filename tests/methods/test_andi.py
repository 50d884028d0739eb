"""ANDi: the geometric mean over noise levels, against the steps' means that the paper compares, one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from noise_schedules import linear_products
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.andi import ANDi

SMALL: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "attention_levels": (), "blocks": 1}
BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _network(spatial_dims: int = 2, **arguments: Any) -> ANDi:
    torch.manual_seed(0)
    network = ANDi(spatial_dims, **{**SMALL, "first_level": 3, "level": 60, "steps": 4, **arguments})
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def _scan(spatial_dims: int = 2, batch: int = 3) -> Tensor:
    return torch.rand(batch, 1, *[8] * spatial_dims, generator=torch.Generator().manual_seed(1))


@BOTH
@torch.no_grad()
def test_map_orders_places_as_the_mean_of_the_papers_deviations(spatial_dims: int) -> None:
    """Mean of the step back by the network's noise against that by the true noise, squared, as the paper writes it."""
    network, image = _network(spatial_dims), _scan(spatial_dims)
    assert network.times == [2, 21, 40, 59]
    products, logarithms = linear_products(), []
    generator = torch.Generator().manual_seed(0)
    noises = [torch.randn(1, *image.shape[1:], generator=generator) for _ in network.times]
    constant = 0.0
    for time, noise in zip(network.times, noises, strict=True):
        now, before = products[time], products[time - 1]
        alpha = now / before
        noisy = math.sqrt(now) * (image * 2 - 1) + math.sqrt(1 - now) * noise
        predicted = network.unet(noisy, torch.full((len(image),), time))
        means = [(noisy - (1 - alpha) / math.sqrt(1 - now) * each) / math.sqrt(alpha) for each in (predicted, noise)]
        logarithms.append((means[0] - means[1]).square().log())
        # what the paper's deviation is of the squared residual on 0..1
        constant += math.log(4 * (math.sqrt(before) * (1 - alpha) / (1 - now)) ** 2) / len(network.times)
    expected = (torch.stack(logarithms).mean(0) - constant).exp()
    torch.testing.assert_close(network(image), expected, rtol=1e-2, atol=1e-4)


@BOTH
@torch.no_grad()
def test_a_scan_has_one_map_however_many_levels_come_at_once(
    spatial_dims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = _network(spatial_dims, scored_noise="gaussian", noise="pyramid", draws=2), _scan(spatial_dims)
    expected = network(image)
    torch.testing.assert_close(network(image[1:]), expected[1:], rtol=1e-3, atol=1e-6)
    monkeypatch.setattr("medad_plugins.methods.andi._AT_ONCE", 3)
    torch.testing.assert_close(network(image), expected, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_one_level_at_which_nothing_is_missed_clears_a_place() -> None:
    """That is what a geometric mean does and an arithmetic one does not."""
    network, image = _network(predicts="sample"), _scan()

    class Misses(nn.Module):
        def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
            missed = torch.where(times == 2, 0.0, 0.5).reshape(-1, 1, 1, 1).expand_as(noisy).clone()
            missed[..., :4] = 0.5
            return (image * 2 - 1).repeat(len(noisy) // len(image), 1, 1, 1) + missed

    network.unet = Misses()
    found = network(image)
    torch.testing.assert_close(found[..., :4], torch.full_like(found[..., :4], 0.0625), rtol=1e-3, atol=0)
    assert float(found[..., 4:].max()) < 0.0625 / 10


def test_levels_in_no_order_are_refused() -> None:
    with pytest.raises(InputError, match=r"the levels are in no order: first_level \(expected 1 to 59.*found 60\)"):
        _network(first_level=60)

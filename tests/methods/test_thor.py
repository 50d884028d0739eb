"""THOR by its paper: a chain with the scan brought in on its way, step by step, and the harmonic mean of the looks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from noise_schedules import linear_products
from numpy.typing import NDArray
from scipy import ndimage, stats
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.thor import THOR
from medad_plugins.scorers import residual_map

SMALL: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "attention_levels": (), "blocks": 1}
BOTH = pytest.mark.parametrize("spatial_dims", [2, 3])


def _network(spatial_dims: int = 2, **arguments: Any) -> THOR:
    torch.manual_seed(0)
    chain = {"level": 61, "steps": 5, "harmonised": (0.8, 0.3), "looks": 2, "region": 5}
    network = THOR(spatial_dims, **{**SMALL, **chain, **arguments})
    for parameter in network.unet.parameters():
        nn.init.normal_(parameter, 0, 0.1)
    return network.eval()


def _scan(spatial_dims: int = 2, batch: int = 3) -> Tensor:
    return torch.rand(batch, 1, *[12] * spatial_dims, generator=torch.Generator().manual_seed(1))


def _suspicion(answer: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    looks = residual_map(torch.from_numpy(answer)[None, None], torch.from_numpy(whole)[None, None], "ssim")[0, 0]
    smooth = ndimage.gaussian_filter(looks.double().numpy(), 2, mode="nearest")
    return np.asarray(np.clip(smooth, 0, 1) * np.abs(answer - whole))


def _region(suspicion: NDArray[Any]) -> NDArray[Any]:
    unit = suspicion / suspicion.max()
    size = [5] * unit.ndim
    spread = ndimage.grey_dilation(ndimage.grey_closing(unit, size, mode="nearest"), size, mode="nearest")
    return np.asarray((spread + unit) / 2)


@BOTH
@torch.no_grad()
def test_chain_and_map_by_plain_computation(spatial_dims: int) -> None:
    network, image, products = _network(spatial_dims), _scan(spatial_dims, 2), linear_products()
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(1, *image.shape[1:], generator=generator)

    times = [60, 45, 30, 15, 0]
    # 0.8 of 61 is nearest to 45, 0.3 to 15; looks at both ends besides
    assert network.scheduler.timesteps.tolist() == times
    assert network.harmonised == {1, 3} and network.looked_at == {0, 1, 3, 4}
    scan, first = image * 2 - 1, noise()
    sample = math.sqrt(products[60]) * scan + math.sqrt(1 - products[60]) * first
    seen: list[NDArray[Any]] = []
    for place, time in enumerate(times):
        now = products[time]
        predicted = network.unet(sample, torch.full((2,), time))
        clean = ((sample - math.sqrt(1 - now) * predicted) / math.sqrt(now)).clamp(-1, 1)
        if place == 4:
            sample = clean
        else:
            then = products[times[place + 1]]
            beta = 1 - now / then
            mean = math.sqrt(then) * beta / (1 - now) * clean + math.sqrt(now / then) * (1 - then) / (1 - now) * sample
            sample = mean + math.sqrt(beta * (1 - then) / (1 - now)) * noise()
        if place == 2:
            continue
        answers = ((clean[:, 0] + 1) / 2).numpy()
        seen.append(np.stack([_suspicion(*pair) for pair in zip(answers, image[:, 0].numpy(), strict=True)]))
        if place in (1, 3):
            kept = torch.from_numpy(np.stack([_region(one) for one in seen[-1]])).float()[:, None]
            mixed = kept * (clean + 1) / 2 + (1 - kept) * image
            sample = math.sqrt(then) * (mixed * 2 - 1) + math.sqrt(1 - then) * first
    expected = torch.from_numpy(stats.hmean(np.stack(seen), axis=0)).float()[:, None]
    torch.testing.assert_close(network(image), expected, rtol=2e-2, atol=1e-5)
    torch.testing.assert_close(network.reconstruct(image), (sample + 1) / 2, rtol=1e-3, atol=1e-3)


@BOTH
@torch.no_grad()
def test_a_scan_has_one_map_whatever_its_batch(spatial_dims: int) -> None:
    network, image = _network(spatial_dims, draws=2, noise="pyramid"), _scan(spatial_dims)
    torch.testing.assert_close(network(image[1:]), network(image)[1:], rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_where_nothing_is_suspicious_the_scan_stays() -> None:
    """An answer that is wrong in a corner alone: from then on the network sees the scan itself elsewhere."""
    network, image = _network(predicts="sample", noise_settings=None), 0.5 * _scan()
    inputs: list[Tensor] = []

    class Wrong(nn.Module):
        def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
            inputs.append(noisy)
            answer = image * 2 - 1
            answer[..., :2, :2] += 1
            return answer

    network.unet = Wrong()
    found = network(image)
    assert float(found[..., :2, :2].amin()) > 0.1 and float(found[..., 8:, 8:].amax()) < 1e-3
    # after the scan was brought in, at place 1, all of the noise is the first draw
    first = torch.randn(1, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    expected = math.sqrt(linear_products()[30]) * (image * 2 - 1) + math.sqrt(1 - linear_products()[30]) * first
    torch.testing.assert_close(inputs[2][..., 8:, 8:], expected[..., 8:, 8:], rtol=1e-3, atol=1e-3)


def test_looks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"too short for its looks: looks \(expected 1 to 5, the steps, found 6\)"):
        _network(looks=6)
    with pytest.raises(ValueError, match="region must be odd"):
        _network(region=4)

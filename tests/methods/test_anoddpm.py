"""AnoDDPM: simplex noise wherever noise is added."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.diffusion import PartialDiffusion, draw_noise
from medad_plugins.methods.anoddpm import AnoDDPM

SMALL: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "attention_levels": (), "blocks": 1}


class _Knows(nn.Module):
    """Predicts the noise that a grey scan would have, and keeps what it saw."""

    def __init__(self, products: list[float]) -> None:
        super().__init__()
        self.products = products
        self.seen: list[Tensor] = []

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        self.seen.append(noisy)
        return noisy / math.sqrt(1 - self.products[int(times[0])])


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_the_scan_and_every_step_back_get_simplex_noise(spatial_dims: int) -> None:
    network = AnoDDPM(spatial_dims, **SMALL, noise="simplex", noise_period=4.0, level=50, steps=3).eval()
    products = network.scheduler.products
    knows = network.unet = _Knows(products)
    image = torch.full((2, 1, *[8] * spatial_dims), 0.75)
    network(image)
    generator = torch.Generator().manual_seed(0)
    first, second, third = (draw_noise("simplex", (1, *image.shape[1:]), generator, 4.0) for _ in range(3))
    start = math.sqrt(products[49]) * 0.5 + math.sqrt(1 - products[49]) * first
    torch.testing.assert_close(knows.seen[0], start.expand_as(image), rtol=1e-4, atol=1e-5)
    # the posterior of a grey scan: what is left of the noise, and new noise of the posterior's deviation
    for now, then, before, after, noise in ((49, 24, 0, 1, second), (24, 0, 1, 2, third)):
        a, b = products[now], products[then]
        beta = 1 - a / b
        mean = math.sqrt(1 - beta) * (1 - b) / (1 - a) * knows.seen[before]
        expected = mean + math.sqrt(beta * (1 - b) / (1 - a)) * noise
        torch.testing.assert_close(knows.seen[after], expected, rtol=1e-3, atol=1e-4)


def test_its_training_adds_simplex_noise_of_each_scan_s_own() -> None:
    network = AnoDDPM(**SMALL, noise="simplex", noise_period=4.0, level=50, steps=1)
    torch.manual_seed(0)
    drawn = network.training_noise.draw((6, 1, 16, 16))
    assert float(drawn.std()) == pytest.approx(0.51, abs=0.1), "it is not brought to unit variance"
    assert not torch.equal(drawn[0], drawn[1])


def test_it_is_partial_diffusion() -> None:
    states = []
    for kind in (AnoDDPM, PartialDiffusion):
        torch.manual_seed(0)
        states.append(kind(**SMALL, level=50, steps=1).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])

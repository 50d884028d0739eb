"""Synomaly: the stages against a loop over single scans."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medad_plugins.methods.synomaly import Synomaly

SMALL: dict[str, Any] = {"width": 4, "multipliers": (1, 2), "attention_levels": (), "blocks": 1, "level": 50}


def _network(spatial_dims: int = 2, **arguments: Any) -> Synomaly:
    torch.manual_seed(0)
    settings = {**SMALL, "predicts": "sample", "noise": "synomaly", "scored_noise": "gaussian", **arguments}
    return Synomaly(spatial_dims, **settings).eval()


def _scan(spatial_dims: int, batch: int = 3) -> Tensor:
    return torch.rand(batch, 1, *[12] * spatial_dims, generator=torch.Generator().manual_seed(1))


class _Fades(nn.Module):
    """Takes for the scan what it is given, moved by a share towards grey: no stage has the answer of the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, noisy: Tensor, times: Tensor) -> Tensor:
        self.calls.append(len(noisy))
        return 0.6 * noisy


@pytest.mark.parametrize("spatial_dims", [2, 3])
@torch.no_grad()
def test_stages_are_those_of_a_loop_over_scans(spatial_dims: int) -> None:
    network, image = _network(spatial_dims, stages=4, threshold=0.15, smallest=5, sigma=0.7), _scan(spatial_dims)
    network.unet = _Fades()
    found = network.reconstruct(image)
    for case, cleaned in zip(image[:, None], found[:, None], strict=True):
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, *case.shape[1:], generator=generator)
        product = float(network.scheduler.alphas_cumprod[49])

        def answer(scan: Tensor, noise: Tensor = noise, product: float = product) -> Tensor:
            noisy = product**0.5 * (scan * 2 - 1) + (1 - product) ** 0.5 * noise
            return ((0.6 * noisy).clamp(-1, 1) + 1) / 2

        last = answer(case)
        mask = network._mask(last, case)
        for _ in range(3):
            last = answer(torch.where(mask, last, case))
            new = network._mask(last, case)
            before, now = float(mask.float().mean()), float(new.float().mean())
            mask = new
            if abs(now - before) <= 0.01 * max(before, 0.03):
                break
        torch.testing.assert_close(cleaned, last, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_scan_has_one_map_whoever_is_in_its_batch() -> None:
    network, image = _network(stages=3, threshold=0.15, smallest=5), _scan(2)
    network.unet = _Fades()
    torch.testing.assert_close(network(image)[1:], network(image[1:]), rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_where_nothing_differs_one_answer_is_enough() -> None:
    network, image = _network(stages=5, threshold=2.0), _scan(2)
    fades = network.unet = _Fades()
    network(image)
    assert len(fades.calls) == 2, "the first answer, and one that shows that the mask stays empty"


@torch.no_grad()
def test_blobs_are_only_in_the_noise_of_the_training() -> None:
    network = _network()
    shape = (64, 1, 24, 24)
    white = network.draw_noise(shape, torch.Generator().manual_seed(0))
    assert torch.equal(white, torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    trained = network.training_noise.draw(shape)
    assert float((trained - torch.randn(shape)).abs().max()) > 0.5


def test_there_must_be_a_stage() -> None:
    with pytest.raises(ValueError, match="stages must be positive, got 0"):
        _network(stages=0)

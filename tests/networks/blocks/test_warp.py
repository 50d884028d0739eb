"""Warps as MONAI's, flows as their plain integration; a flow and its opposite undo each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.blocks import Warp
from torch import Tensor
from torch.nn import functional

from medad_plugins.networks.blocks.warp import integrate_velocity, warp

BOTH = pytest.mark.parametrize("size", [(24, 31), (9, 12, 10)])


def _smooth(size: tuple[int, ...], strength: float) -> Tensor:
    torch.manual_seed(0)
    coarse = strength * torch.randn(2, len(size), *[4] * len(size))
    return functional.interpolate(coarse, size, mode="bilinear" if len(size) == 2 else "trilinear", align_corners=True)


@BOTH
@pytest.mark.filterwarnings("ignore:.*Using PyTorch native grid_sample")
def test_warp_is_monais(size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image, displacement = torch.rand(2, 3, *size), 3 * torch.randn(2, len(size), *size)
    torch.testing.assert_close(warp(image, displacement), Warp()(image, displacement), rtol=1e-4, atol=1e-5)


@BOTH
def test_flow_is_the_sum_of_small_steps_and_is_undone_by_its_opposite(size: tuple[int, ...]) -> None:
    velocity = _smooth(size, 0.5)
    forward, back = integrate_velocity(velocity), integrate_velocity(-velocity)
    stepped = torch.zeros_like(velocity)
    for _ in range(256):
        stepped = stepped + warp(velocity / 256, stepped)
    assert float((forward - stepped).abs().mean()) < 0.02 * float(stepped.abs().mean())
    inner: Any = (..., *[slice(3, -3)] * len(size))
    undone = forward + warp(back, forward)
    assert float(undone[inner].abs().mean()) < 0.15 * float(forward[inner].abs().mean())

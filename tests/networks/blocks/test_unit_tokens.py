"""Tokens of unit length from feature maps, against a plain computation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from medad_plugins.networks import UnitTokens


@pytest.mark.parametrize("dims", [2, 3])
def test_stages_are_joined_on_the_coarsest_grid(dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    fine = torch.rand(2, 3, *(4,) * dims, generator=generator)
    coarse = torch.rand(2, 5, *(2,) * dims, generator=generator)
    tokens = UnitTokens([3, 5], [8, 16], dims, neighbourhood=3)
    found = tokens([fine, coarse])
    assert tokens.out_channels == 8 and found.shape == (2, 8, *(2,) * dims)

    def mean(tap: torch.Tensor, place: tuple[int, ...]) -> torch.Tensor:
        last = tap.shape[2] - 1
        around = itertools.product(*[[min(max(p + o, 0), last) for o in (-1, 0, 1)] for p in place])
        indices: list[tuple[Any, ...]] = [(slice(None), slice(None), *near) for near in around]
        return torch.stack([tap[index] for index in indices]).mean(0)

    for place in itertools.product(range(2), repeat=dims):
        halves = itertools.product(*[(2 * p, 2 * p + 1) for p in place])
        joined = torch.cat([torch.stack([mean(fine, half) for half in halves]).mean(0), mean(coarse, place)], 1)
        expected = joined / joined.square().sum(1, keepdim=True).sqrt()
        torch.testing.assert_close(found[(slice(None), slice(None), *place)], expected)


def test_blocks_are_averaged() -> None:
    taps = list(torch.randn(3, 2, 4, 5, 5, generator=torch.Generator().manual_seed(0)))
    expected = (taps[0] + taps[1] + taps[2]) / 3
    expected = expected / expected.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(UnitTokens([4, 4, 4], [14, 14, 14])(taps), expected)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="neighbourhood must be odd and positive"):
        UnitTokens([4], [14], neighbourhood=2)
    with pytest.raises(ValueError, match="need as many channels"):
        UnitTokens([4, 5], [14, 14])

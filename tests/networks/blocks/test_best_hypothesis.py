"""The best of several hypotheses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medad_plugins.networks.blocks.best_hypothesis import BestHypothesis
from medad_plugins.scorers import ResidualMap


@pytest.mark.parametrize("edges", [(3, 4), (2, 3, 2)])
def test_the_best_counts_and_learns_at_every_pixel(edges: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image, guesses = torch.rand(2, 2, *edges), torch.rand(2, 6, *edges, requires_grad=True)
    best = BestHypothesis(ResidualMap("l2"), 3)
    found = best(guesses, image)
    squares = torch.stack([(guesses[:, 2 * k : 2 * k + 2] - image).square().mean(1) for k in range(3)])
    torch.testing.assert_close(found[:, 0], squares.min(0).values)
    found.sum().backward()
    assert guesses.grad is not None
    learning = torch.stack([guesses.grad[:, 2 * k : 2 * k + 2].ne(0).any(1) for k in range(3)])
    assert torch.equal(learning, torch.stack([squares.argmin(0) == k for k in range(3)]))
    closest = best.closest(guesses.detach(), image)
    torch.testing.assert_close((closest - image).square().mean(1), squares.min(0).values.detach())


def test_one_hypothesis_is_none() -> None:
    with pytest.raises(ValueError, match="count must be at least 2"):
        BestHypothesis(nn.Identity(), 1)

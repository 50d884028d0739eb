"""The best of several hypotheses, and the critic that they are to convince."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medad_plugins.networks.blocks.hypotheses import BestHypothesis, HypothesisCritic
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


def test_critic_and_hypotheses_learn_opposite_things_from_one_term() -> None:
    torch.manual_seed(0)
    critic = HypothesisCritic(2, 1, 8, (4,))
    image, guess = torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8, requires_grad=True)
    term = critic(image, [guess, guess + 0.1])
    term.backward()
    weight = next(critic.parameters())
    assert weight.grad is not None and guess.grad is not None

    def probability(scan: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = critic.layers(scan * 2 - 1)
        return torch.sigmoid(logits)

    fakes = torch.cat([guess, guess + 0.1]).detach()
    with torch.no_grad():
        expected = -probability(image).log().mean() - (1 - probability(fakes)).log().mean()
        assert float(term) == pytest.approx(float(expected), rel=1e-4)
        assert math.isfinite(float(term))
        # a step along its gradient: the critic finds more, of changed hypotheses less
        critic.layers[0][0].weight -= 0.01 * weight.grad
        assert float(critic(image, [guess, guess + 0.1])) < float(term)
        critic.layers[0][0].weight += 0.01 * weight.grad
        assert float(critic(image, [guess - guess.grad, guess + 0.1])) > float(term)


def test_one_hypothesis_is_none() -> None:
    with pytest.raises(ValueError, match="count must be at least 2"):
        BestHypothesis(nn.Identity(), 1)

"""The critic that several hypotheses are to convince."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from medad_plugins.networks.coders.hypothesis_critic import HypothesisCritic


def test_critic_and_hypotheses_learn_opposite_things_from_one_term() -> None:
    torch.manual_seed(0)
    critic: Any = HypothesisCritic(2, 1, 8, (4,))
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

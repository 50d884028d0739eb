"""The density of a latent: what each value sees, and what its probability is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medad_plugins.networks.blocks.autoregressive_latent import AutoregressiveLatent


def _latent(entries: int = 5) -> AutoregressiveLatent:
    torch.manual_seed(0)
    return AutoregressiveLatent(nn.Identity(), entries, pixels=10, widths=(3, 4), bins=7)


def test_a_value_is_predicted_from_those_before_it_alone() -> None:
    latent = _latent().double()

    def logits(code: torch.Tensor) -> torch.Tensor:
        return latent.estimator(code[None])[0].reshape(5, 7).sum(1)

    jacobian = torch.autograd.functional.jacobian(logits, torch.rand(5).double())
    assert isinstance(jacobian, torch.Tensor)
    assert not jacobian.triu().any()
    assert bool((jacobian.tril(-1) != 0)[torch.ones(5, 5).tril(-1).bool()].all())


def test_unlikelihood_is_the_sum_over_values_of_minus_log_their_bins_share() -> None:
    latent, features = _latent(), torch.randn(3, 5)
    with torch.no_grad():
        code, terms = latent.penalised(features)
        found = latent.unlikelihood(code)
        torch.testing.assert_close(code, torch.sigmoid(features))
        expected = []
        for row in code:
            shares = latent.estimator(row[None])[0].reshape(5, 7).softmax(1)
            expected.append(-sum(math.log(shares[i, min(6, int(row[i] * 7))]) for i in range(5)))
    assert found.tolist() == pytest.approx(expected, rel=1e-4)
    assert float(terms["latent"]) == pytest.approx(sum(expected) / 3 / 10, rel=1e-4)
    edge = latent.unlikelihood(torch.ones(1, 5))
    assert bool(torch.isfinite(edge).all()), "1 falls into the last bin"


def test_the_probabilities_of_all_latents_sum_to_one() -> None:
    latent = AutoregressiveLatent(nn.Identity(), 2, widths=(3,), bins=4)
    # within a bin the estimator sees different values: a step function of them has a sum that can be taken
    grid = torch.tensor([[a, b] for a in range(4) for b in range(4)]) / 4 + 0.125
    with torch.no_grad():
        assert float((-latent.unlikelihood(grid)).exp().sum()) == pytest.approx(1, rel=1e-4)


def test_the_encoder_learns_by_what_the_estimator_sees() -> None:
    latent, features = _latent(), torch.randn(3, 5, requires_grad=True)
    latent.penalised(features)[1]["latent"].backward()
    assert features.grad is not None and bool(features.grad[:, :4].any()) and not features.grad[:, 4].any()

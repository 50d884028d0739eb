"""Sparse and winner-take-all latents, value by value."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medad_plugins.networks.blocks.sparse_latent import SparseLatent, lifetime_winners, spatial_winners


@pytest.mark.parametrize("edges", [(3, 5), (2, 3, 4)])
def test_one_place_of_every_map_wins(edges: tuple[int, ...]) -> None:
    code = torch.rand(2, 3, *edges)
    code[0, 0] = 1.0  # ties: the first wins
    kept = spatial_winners(code)
    assert ((kept != 0).flatten(2).sum(2) == 1).all()
    assert torch.equal(kept.flatten(2).amax(2), code.flatten(2).amax(2))
    assert int(kept[0, 0].flatten().argmax()) == 0


@pytest.mark.parametrize("share", [0.05, 0.25, 0.3])
def test_every_unit_wins_in_a_share_of_the_batch(share: float) -> None:
    code = torch.rand(8, 4) + 0.1
    kept = lifetime_winners(code, share)
    count = math.ceil(8 * share)
    for unit in range(4):
        order = code[:, unit].argsort(descending=True)
        assert (kept[order[:count], unit] == code[order[:count], unit]).all()
        assert not kept[order[count:], unit].any()
    maps = code[:, :, None, None] * torch.tensor([[1.0, 0.5]])
    assert torch.equal(lifetime_winners(maps, share)[:, :, 0, 0], kept)


def test_winners_learn_and_the_others_do_not() -> None:
    latent = SparseLatent(nn.Identity(), "winners", 0.3)
    features = torch.randn(6, 3, 4, 4, requires_grad=True)
    code = latent(features)
    code.sum().backward()
    assert features.grad is not None
    assert torch.equal(features.grad != 0, code != 0)
    assert ((code != 0).flatten(2).any(2).sum(0) == 2).all()
    latent.eval()
    alone = latent(features[:1])
    torch.testing.assert_close(latent(features)[:1], alone)
    assert (alone != 0).flatten(2).any(2).float().mean() > 0.9, "at inference every map has its winner"


def test_penalties_are_the_mean_and_the_divergence_of_two_coins() -> None:
    x = torch.randn(7, 3)
    code, terms = SparseLatent(nn.Identity(), "l1", 0.2).penalised(x)
    torch.testing.assert_close(code, 1 / (1 + (-x).exp()))
    assert float(terms["latent"]) == pytest.approx(float(code.mean()))
    expected = 0.0
    for mean in code.mean(0).tolist():
        expected += 0.2 * math.log(0.2 / mean) + 0.8 * math.log(0.8 / (1 - mean))
    found = SparseLatent(nn.Identity(), "kl", 0.2).penalised(x)[1]["latent"]
    assert float(found) == pytest.approx(expected, rel=1e-4)
    off = SparseLatent(nn.Identity(), "kl", 0.2).penalised(torch.full((2, 3), -200.0))[1]["latent"]
    assert bool(torch.isfinite(off))


def test_wrong_arguments() -> None:
    for kind, share in (("l2", 0.1), ("kl", 0.0), ("winners", 1.0)):
        with pytest.raises(ValueError, match="kind must be one of"):
            SparseLatent(nn.Identity(), kind, share)

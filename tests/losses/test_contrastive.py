"""Contrastive losses, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import info_nce, supervised_contrast


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _cosine(one: Tensor, other: Tensor) -> float:
    return float((one * other).sum() / one.norm() / other.norm())


def test_each_query_is_to_find_its_own_key() -> None:
    queries, keys = _random(2, 5, 3), _random(2, 5, 3, seed=1)
    total = 0.0
    for case in range(2):
        for own in range(5):
            powers = [math.exp(_cosine(queries[case, own], key) / 0.07) for key in keys[case]]
            total -= math.log(powers[own] / sum(powers)) / 10
    assert float(info_nce(queries, keys, 0.07)) == pytest.approx(total)
    assert float(info_nce(keys, queries, 0.07)) != pytest.approx(total), "it has a direction"
    assert float(info_nce(queries, 3 * queries, 0.01)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("by_vector", [False, True])
def test_each_vector_is_to_find_those_of_its_class(by_vector: bool) -> None:
    vectors, classes = _random(6, 4), torch.tensor([0, 1, 0, 2, 1, 0])  # 2 is alone
    temperatures = [0.2, 0.5, 0.2, 0.3, 0.5, 0.2] if by_vector else [0.2] * 6
    losses = []
    for own in range(6):
        others = [other for other in range(6) if other != own]
        powers = {o: math.exp(_cosine(vectors[own], vectors[o]) / temperatures[own]) for o in others}
        fellows = [o for o in others if classes[o] == classes[own]]
        if fellows:
            losses.append(-sum(math.log(powers[o] / sum(powers.values())) for o in fellows) / len(fellows))
    assert len(losses) == 5
    temperature = torch.tensor(temperatures) if by_vector else 0.2
    assert float(supervised_contrast(vectors, classes, temperature)) == pytest.approx(sum(losses) / 5, rel=1e-6)


def test_with_scans_for_classes_it_is_simclr() -> None:
    one, two = _random(4, 5), _random(4, 5, seed=1)
    vectors = functional.normalize(torch.cat([one, two]), dim=1)
    logits = (vectors @ vectors.t() / 0.5).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(logits, torch.tensor([4, 5, 6, 7, 0, 1, 2, 3]))
    found = supervised_contrast(torch.cat([one, two]), torch.arange(4).repeat(2), 0.5)
    torch.testing.assert_close(found, expected)


def test_gradients_are_finite_and_reach_both_sides() -> None:
    queries, keys = _random(3, 4).requires_grad_(), _random(3, 4, seed=1).requires_grad_()
    info_nce(queries, keys, 0.07).backward()
    supervised_contrast(queries, torch.tensor([0, 0, 1]), 0.2).backward()
    for values in (queries, keys):
        assert (
            values.grad is not None and bool(torch.isfinite(values.grad).all()) and float(values.grad.abs().max()) > 0
        )


def test_half_precision_is_left_to_the_network() -> None:
    queries, keys = _random(4, 8).float(), _random(4, 8, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce(queries, keys, 0.07), info_nce(queries, keys, 0.07))
        found = info_nce(queries, keys, 0.07)
    torch.testing.assert_close(found, info_nce(queries, keys, 0.07))


def test_a_batch_without_fellows_is_refused() -> None:
    with pytest.raises(ValueError, match="no vector has another one of its class"):
        supervised_contrast(_random(3, 4), torch.arange(3), 0.2)

"""A Gaussian of pooled features, in deviations of what scans left out have."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import PooledGaussian


def _vectors(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 8, generator=generator) @ torch.rand(8, 8, generator=generator)


def _fitted(vectors: Tensor) -> PooledGaussian:
    gaussian = PooledGaussian()
    for batch in vectors.split(7):
        gaussian.collect(batch)
    gaussian.fit()
    return gaussian


def test_distances_are_mahalanobis_distances_of_signed_roots() -> None:
    vectors, queries = _vectors(3000), _vectors(3, seed=1)
    gaussian = _fitted(vectors)
    roots = (vectors.sign() * vectors.abs().sqrt()).double()
    covariance = torch.cov(roots.T, correction=0)
    away = queries.double().sign() * queries.double().abs().sqrt() - roots.mean(0)
    found = gaussian(queries).double() * float(gaussian.unit)
    # of so many vectors it is hardly shrunk
    plain = torch.einsum("nd,de,ne->n", away, torch.linalg.inv(covariance), away).sqrt()
    torch.testing.assert_close(found, plain, rtol=0.05, atol=0)
    precision = gaussian.whitening.double().T @ gaussian.whitening.double()
    torch.testing.assert_close(found, torch.einsum("nd,de,ne->n", away, precision, away).sqrt(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("count", [12, 60])
def test_the_unit_is_that_of_scans_left_out_one_by_one(count: int) -> None:
    vectors = _vectors(count)
    gaussian = _fitted(vectors)
    left_out = []
    for index in range(count):
        rest = _fitted(torch.cat([vectors[:index], vectors[index + 1 :]]))
        left_out.append(rest(vectors[index : index + 1]) * rest.unit)
    assert float(gaussian.unit) == pytest.approx(float(torch.cat(left_out).std()), rel=0.15)
    assert float(gaussian.unit) > 0


def test_two_sites_fit_what_one_would() -> None:
    vectors = _vectors(30)
    server = torch.nn.Sequential(PooledGaussian())
    replies = []
    for site, share in (("one", vectors[:10]), ("other", vectors[10:])):
        state = {f"0.{name}": value for name, value in _fitted(share).state_dict().items()}
        replies.append(Reply(site, len(share), state))
    merge_replies(server, replies)
    for name, value in _fitted(vectors).state_dict().items():
        torch.testing.assert_close(server.state_dict()[f"0.{name}"], value, rtol=1e-5, atol=1e-6)


def test_it_begins_anew_after_a_fit() -> None:
    gaussian = _fitted(_vectors(20))
    again = copy.deepcopy(gaussian)
    again.collect(_vectors(5, seed=1))
    assert len(again.vectors) == 5


def test_refusals() -> None:
    gaussian = PooledGaussian()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        gaussian(_vectors(1))
    gaussian.collect(_vectors(2))
    with pytest.raises(InputError, match="needs three normal scans"):
        gaussian.fit()

"""A mixture of normal tokens: its steps written out, its distances, and that it finds the groups that there are."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import TokenMixture

GRID = (2, 3)
CENTRES = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.6, 0.8]])


def _tokens(scans: int, seed: int = 0, noise: float = 0.05) -> Tensor:
    """Each place belongs to one of three groups."""
    generator = torch.Generator().manual_seed(seed)
    return (CENTRES[torch.arange(6) % 3] + noise * torch.randn(scans, 6, 4, generator=generator))[:, None]


def _fitted(tokens: Tensor, **settings: Any) -> TokenMixture:
    mixture = TokenMixture(**{"components": 8, "storage": "float32", **settings})
    for batch in tokens.split(7):
        mixture.collect(batch, GRID)
    mixture.fit()
    return mixture


def _plain(rows: list[list[float]], first: list[int], settings: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """One pass over one batch after the other, number by number."""
    n, size, count = len(rows), len(rows[0]), len(first)
    average = [sum(row[d] for row in rows) / n for d in range(size)]
    spread = [sum((row[d] - average[d]) ** 2 for row in rows) / n + 1e-6 for d in range(size)]
    means, variances = [list(rows[i]) for i in first], [list(spread) for _ in first]
    share = [1 / count] * count
    sums = [[share[k] * means[k][d] for d in range(size)] for k in range(count)]
    squares = [[share[k] * (means[k][d] ** 2 + spread[d] - 1e-6 + 1e-6) for d in range(size)] for k in range(count)]

    def sticks(prior: float) -> list[float]:
        left, found = 1.0, []
        for k in range(count):
            broken = min(share[k] / (share[k] + sum(share[k + 1 :]) + prior), 1 - 1e-7)
            found.append(left * broken)
            left *= 1 - broken
        return found

    order = torch.randperm(n, generator=settings["generator"]).tolist()
    for start in range(0, n, settings["batch"]):
        batch = [rows[i] for i in order[start : start + settings["batch"]]]
        weights = sticks((settings["concentration"] - 1) / len(batch))
        parts = []
        for row in batch:
            densities = []
            for k in range(count):
                logs = [
                    -((row[d] - means[k][d]) ** 2) / variances[k][d] / 2 - math.log(2 * math.pi * variances[k][d]) / 2
                    for d in range(size)
                ]
                densities.append(weights[k] * math.exp(sum(logs)))
            parts.append([density / sum(densities) for density in densities])
        rate = settings["momentum"]
        for k in range(count):
            mass = [part[k] / len(batch) for part in parts]
            share[k] += rate * (sum(mass) - share[k])
            for d in range(size):
                sums[k][d] += rate * (sum(m * row[d] for m, row in zip(mass, batch)) - sums[k][d])
                squares[k][d] += rate * (sum(m * row[d] ** 2 for m, row in zip(mass, batch)) - squares[k][d])
                means[k][d] = sums[k][d] / share[k]
                variances[k][d] = squares[k][d] / share[k] - means[k][d] ** 2 + 1e-6
    weights = sticks((settings["concentration"] - 1) / len(batch))
    total = sum(weights)
    return torch.tensor(means), torch.tensor(variances), torch.tensor([weight / total for weight in weights])


@pytest.mark.parametrize(("momentum", "concentration", "batch"), [(0.2, 2.0, 20), (0.7, 1.0, 60), (0.5, 5.0, 16)])
def test_a_pass_is_the_one_written_out(momentum: float, concentration: float, batch: int) -> None:
    tokens = _tokens(10, noise=0.4)
    settings = {"momentum": momentum, "concentration": concentration, "batch": batch}
    mixture = _fitted(tokens, components=3, passes=1, floor=0.0, **settings)
    generator = torch.Generator().manual_seed(0)
    rows = tokens.flatten(0, 2).double()
    first = torch.randperm(len(rows), generator=generator)[:3].tolist()
    means, variances, weights = _plain(rows.tolist(), first, {**settings, "generator": generator})
    torch.testing.assert_close(mixture.means, means, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(mixture.variances, variances, rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(mixture.weights, weights, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_the_groups_and_what_belongs_to_none(seed: int) -> None:
    mixture = _fitted(_tokens(40), passes=60, batch=120, seed=seed)
    nearest = torch.cdist(CENTRES, mixture.means)
    assert float(nearest.amin(1).amax()) < 0.06
    heavy = mixture.means[mixture.weights > 0.05]
    assert float(torch.cdist(heavy, CENTRES).amin(1).amax()) < 0.2, "no component of weight lies elsewhere"
    assert float(mixture.weights.sum()) == pytest.approx(1)
    normal, strange = _tokens(5, seed=9)[:, 0], _tokens(5, seed=9)[:, 0]
    strange[:, 4] = torch.tensor([-0.7, 0.1, 0.7, 0.0])
    found = mixture(strange)
    assert float(found[:, 4].amin()) > 5 * float(mixture(normal).amax())
    assert torch.equal(found[:, :4], mixture(normal)[:, :4])


def test_cosine_and_likelihood() -> None:
    queries = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(3))
    mixture = _fitted(_tokens(20), passes=5, place=0.5, batch=40)
    at = torch.tensor([[a, b] for a in (-0.5, 0.5) for b in (-2 / 3, 0, 2 / 3)])
    placed = torch.cat([queries, 0.5 * at.expand(2, -1, -1)], 2)
    expected = 1 - torch.cosine_similarity(placed[:, :, None], mixture.means, dim=3).amax(2)
    torch.testing.assert_close(mixture(queries), expected, rtol=1e-4, atol=1e-5)
    likely = _fitted(_tokens(20), passes=5, distance="likelihood", batch=40)
    parts = Independent(Normal(likely.means, likely.variances.sqrt()), 1)
    model = MixtureSameFamily(Categorical(likely.weights), parts)
    peaks = (likely.weights.log() + torch.diagonal(parts.log_prob(likely.means[:, None]))).logsumexp(0)
    torch.testing.assert_close(likely(queries), (peaks - model.log_prob(queries)) / 4, rtol=1e-4, atol=1e-4)
    assert float(likely(_tokens(3)[:, 0]).amin()) >= 0


def test_as_many_scans_as_it_is_told() -> None:
    tokens = _tokens(41)
    mixture = TokenMixture(4, references=5)
    for batch in tokens.split(4):
        mixture.collect(batch, GRID)
        assert len(mixture.candidates) <= 10
    mixture.fit()
    assert mixture.candidates.numel() == 0 and len(mixture.means) <= 4


def test_two_sites_have_the_mixture_of_one() -> None:
    tokens = _tokens(12)
    server = torch.nn.Sequential(TokenMixture(4, storage="float32"))
    replies = []
    for site, share in (("one", tokens[:5]), ("other", tokens[5:]), ("none", None)):
        own = TokenMixture(4, storage="float32")
        if share is not None:
            own.collect(share, GRID)
        count = 0 if share is None else len(share)
        replies.append(Reply(site, count, {f"0.{n}": v for n, v in own.state_dict().items()}))
    merge_replies(server, replies)
    (merged,) = server
    assert isinstance(merged, TokenMixture)
    merged.fit()
    whole = _fitted(tokens, components=4)
    for name, value in whole.state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


@pytest.mark.parametrize("settings", [{}, {"distance": "likelihood", "place": 0.2}])
def test_state_script_and_bfloat16(settings: dict[str, Any]) -> None:
    mixture, queries = _fitted(_tokens(8), **settings), _tokens(2, seed=1)[:, 0]
    other = TokenMixture(**settings)
    other.load_state_dict({**other.state_dict(), **mixture.state_dict()}, strict=True)
    assert torch.equal(other(queries), mixture(queries))
    torch.testing.assert_close(torch.jit.script(mixture)(queries), mixture(queries))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mixture(queries), other(queries))
    assert torch.equal(_fitted(_tokens(8), **settings).means, mixture.means), "the same seed, the same mixture"


def test_refusals() -> None:
    with pytest.raises(ValueError, match="momentum lie in"):
        TokenMixture(momentum=0)
    with pytest.raises(ValueError, match="distance must be one of"):
        TokenMixture(distance="far")
    mixture = TokenMixture(2)
    with pytest.raises(InputError, match="no normal scan"):
        mixture.fit()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        mixture(_tokens(1)[:, 0])
    mixture.collect(torch.ones(2, 1, 6, 4), GRID)
    with pytest.raises(InputError, match="the same features"):
        mixture.fit()

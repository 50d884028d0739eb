"""A memory of vectors: what it keeps, within which budget, and how near its nearest is."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import MemoryBank
from medad_plugins.networks.fitted.coreset import distances_to_random, random_projection


def _vectors(count: int, dimensions: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = 4 * torch.randn(12, dimensions, generator=torch.Generator().manual_seed(99))
    # most clusters are rare
    which = (12 * torch.rand(count, generator=generator) ** 4).long()
    return centres[which] + torch.randn(count, dimensions, generator=generator)


def _filled(vectors: Tensor, batch_size: int = 100, **settings: float) -> MemoryBank:
    memory = MemoryBank(**settings)  # type: ignore[arg-type]
    for batch in vectors.split(batch_size):
        memory.collect(batch)
    return memory


def _budget(vectors: int, dimensions: int = 16) -> float:
    """MiB that hold so many candidates."""
    per_vector = 4 * (2 * dimensions + 2 * 128 + 8)
    return (vectors * per_vector + per_vector / 2) / 2**20


def _radius(vectors: Tensor, bank: Tensor) -> float:
    return float(torch.cdist(vectors, bank).amin(1).max())


def test_it_is_the_greedy_coreset_of_all_vectors() -> None:
    """Random projection, mean distance to ten random points, then always the furthest: in plain loops."""
    vectors = _vectors(300, 40)
    memory = _filled(vectors, coreset=0.1, projection=8, seed=5)
    memory.fit()
    points = random_projection(vectors, 8, 5).double()
    least, expected = distances_to_random(points, 10, 5), []
    for _ in range(30):
        pick = max(range(300), key=lambda i: float(least[i]))
        expected.append(pick)
        for i in range(300):
            least[i] = min(float(least[i]), math.dist(points[i].tolist(), points[pick].tolist()))
    assert torch.equal(memory.bank, vectors[expected])
    assert int(memory.seen) == 300 and memory.candidates.numel() == 0


@pytest.mark.parametrize(("coreset", "kept"), [(0.1, 50), (7, 7), (1.0, 500), (0.0001, 1), (900, 500)])
def test_a_share_or_a_number_is_kept(coreset: float, kept: int) -> None:
    memory = _filled(_vectors(500), coreset=coreset)
    memory.fit()
    assert memory.bank.shape == (kept, 16)


@pytest.mark.parametrize("batch_size", [1, 33, 500])
def test_batches_do_not_matter(batch_size: int) -> None:
    one, other = _filled(_vectors(500), 100), _filled(_vectors(500), batch_size)
    for memory in (one, other):
        memory.fit()
    assert torch.equal(one.bank, other.bank)


@pytest.mark.parametrize("batch_size", [50, 700])
def test_candidates_never_exceed_the_budget(batch_size: int) -> None:
    memory = MemoryBank(0.02, _budget(400))
    assert memory.capacity(16) == 400
    most = 0
    for batch in _vectors(5000).split(batch_size):
        memory.collect(batch)
        most = max(most, len(memory.candidates))
        assert len(memory.candidates) <= 400
    assert most > 300
    memory.fit()
    assert len(memory.bank) == 100 and int(memory.seen) == 5000


def test_a_stream_covers_nearly_as_well_as_all_vectors_at_once() -> None:
    vectors = _vectors(6000)
    whole, stream = _filled(vectors, coreset=120), _filled(vectors, coreset=120, memory_budget=_budget(600))
    for memory in (whole, stream):
        memory.fit()
    random = vectors[torch.randperm(6000, generator=torch.Generator().manual_seed(0))[:120]]
    apart = _radius(vectors, whole.bank)
    assert _radius(vectors, stream.bank) < 1.2 * apart
    assert _radius(vectors, random) > 1.4 * apart, "the test would not notice a bank drawn at random"
    rows = {tuple(row) for row in vectors.tolist()}
    assert all(tuple(row) in rows for row in stream.bank.tolist()), "whole vectors, as they were"


def test_a_stream_is_reproducible() -> None:
    one, other = (_filled(_vectors(3000), coreset=50, memory_budget=_budget(300)) for _ in range(2))
    torch.manual_seed(77)
    for memory in (one, other):
        memory.fit()
    assert torch.equal(one.bank, other.bank)


@pytest.mark.parametrize("coreset", [0.5, 250])
def test_a_bank_larger_than_the_budget_is_refused_in_a_sentence(coreset: float) -> None:
    memory = MemoryBank(coreset, _budget(400))
    text = r"larger than its budget: --memory_budget .*expected at most 200 vectors.*raise --memory_budget or lower"
    with pytest.raises(InputError, match=text):
        for batch in _vectors(1000).split(100):
            memory.collect(batch)
    assert len(memory.candidates) <= 400


def test_nothing_to_fit_on() -> None:
    with pytest.raises(InputError, match="no normal scan to fit the memory bank on"):
        MemoryBank().fit()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        MemoryBank()(_vectors(2))


def test_a_second_fit_begins_anew() -> None:
    memory = _filled(_vectors(200), coreset=0.1)
    memory.fit()
    memory.collect(_vectors(90, seed=1))
    memory.fit()
    assert int(memory.seen) == 90 and len(memory.bank) == 9


def test_a_stopped_pass_goes_on_where_it_stopped() -> None:
    straight, stopped = (_filled(_vectors(700), coreset=0.1, memory_budget=_budget(300)) for _ in range(2))
    resumed = MemoryBank(0.1, _budget(300))
    resumed.load_state_dict(stopped.state_dict(), strict=True)
    for memory in (straight, resumed):
        memory.collect(_vectors(500, seed=3))
        memory.fit()
    assert torch.equal(straight.bank, resumed.bank)


@pytest.mark.parametrize("at_once", [7, 64, 1024])
def test_the_nearest_is_the_nearest(at_once: int) -> None:
    memory = _filled(_vectors(200), coreset=1.0)
    memory.fit()
    memory.at_once = at_once
    queries = torch.cat([_vectors(30, seed=1), memory.bank[17:19]])
    distances, places = memory.nearest(queries)
    for query, distance, place in zip(queries.double(), distances, places):
        plain = [math.dist(query.tolist(), vector.tolist()) for vector in memory.bank.double()]
        assert float(distance) == pytest.approx(min(plain), rel=1e-5, abs=1e-12)
        assert int(place) == plain.index(min(plain))
    assert distances[-2:].tolist() == [0, 0], "exact for what is in the bank"
    assert torch.equal(memory(queries), distances)


def test_far_from_zero_distances_keep_their_digits() -> None:
    memory = _filled(_vectors(200) + 1000, coreset=1.0)
    memory.fit()
    queries = _vectors(20, seed=1) + 1000
    expected = torch.cdist(queries.double(), memory.bank.double()).amin(1)
    torch.testing.assert_close(memory(queries).double(), expected, rtol=1e-3, atol=0)


def test_novelty_is_one_minus_the_papers_softmax() -> None:
    memory = _filled(_vectors(60), coreset=1.0)
    memory.fit()
    queries = _vectors(5, seed=2)
    distances, places = memory.nearest(queries)
    found = memory.novelty(queries, places, 4)
    for row, query in enumerate(queries.tolist()):
        nearest = memory.bank[places[row]].tolist()
        around = sorted(memory.bank.tolist(), key=lambda vector: math.dist(vector, nearest))[:4]
        total = sum(math.exp(math.dist(query, vector)) for vector in around)
        assert float(found[row]) == pytest.approx(1 - math.exp(float(distances[row])) / total, rel=1e-4, abs=1e-5)


# several sites


def _merged(parts: list[MemoryBank]) -> MemoryBank:
    merged = copy.deepcopy(parts[0])
    states = [dict(part.named_buffers()) for part in parts]
    for name, value in merged.merge_buffers(states).items():
        setattr(merged, name, value)
    merged.after_merge()
    return merged


def test_two_halves_collected_apart_and_fitted_together() -> None:
    """Within the budget, exactly the bank of all vectors at one place."""
    vectors = _vectors(600)
    whole = _filled(vectors, coreset=0.05)
    merged = _merged([_filled(vectors[:250], coreset=0.05), _filled(vectors[250:], coreset=0.05)])
    for memory in (whole, merged):
        memory.fit()
    assert int(merged.seen) == 600 and torch.equal(merged.bank, whole.bank)


@pytest.mark.parametrize("coreset", [0.05, 30])
def test_two_banks_become_one_of_the_size_that_all_vectors_call_for(coreset: float) -> None:
    vectors = _vectors(600)
    halves = [_filled(half, coreset=coreset) for half in (vectors[:300], vectors[300:])]
    for half in halves:
        half.fit()
    merged = _merged(halves)
    assert len(merged.bank) == 30
    whole = _filled(vectors, coreset=coreset)
    whole.fit()
    assert _radius(vectors, merged.bank) < 1.35 * _radius(vectors, whole.bank)
    before = merged.bank
    merged.fit()
    assert torch.equal(merged.bank, before), "a bank of the right size stays"


def test_a_federation_merges_banks() -> None:
    vectors = _vectors(600)
    server = torch.nn.Sequential(MemoryBank(0.05))
    replies = []
    for site, share in (("one", vectors[:200]), ("other", vectors[200:])):
        own = copy.deepcopy(server)
        memory = own[0]
        assert isinstance(memory, MemoryBank)
        memory.collect(share)
        memory.fit()
        replies.append(Reply(site, len(share), {n: v for n, v in own.state_dict().items() if n != "0.candidates"}))
    merge_replies(server, replies)
    (merged,) = server
    assert isinstance(merged, MemoryBank)
    assert merged.bank.shape == (30, 16) and int(merged.seen) == 600


def test_a_site_without_cases_adds_nothing() -> None:
    one = _filled(_vectors(100), coreset=0.1)
    merged = _merged([one, MemoryBank(0.1)])
    assert int(merged.seen) == 100 and torch.equal(merged.candidates, one.candidates)


def test_candidates_of_many_sites_are_brought_back_into_the_budget() -> None:
    parts = [_filled(_vectors(390, seed=seed), coreset=20, memory_budget=_budget(400)) for seed in range(4)]
    merged = _merged(parts)
    assert int(merged.seen) == 4 * 390 and 20 <= len(merged.candidates) <= 400
    merged.fit()
    assert len(merged.bank) == 20


@pytest.mark.parametrize(("coreset", "budget"), [(0, 10), (1.5, 10), (-3, 10), (0.1, 0)])
def test_wrong_arguments(coreset: float, budget: float) -> None:
    with pytest.raises(ValueError, match="coreset must be a share in .0, 1. or a number of vectors"):
        MemoryBank(coreset, budget)

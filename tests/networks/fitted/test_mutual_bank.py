"""Scans compared with each other, written out; how a scan is told from the others, and what is kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import MutualBank

GRIDS = [(3, 4), (2, 3, 3)]


def _tokens(scans: int, grid: Sequence[int], kinds: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (scans, kinds, int(torch.tensor(grid).prod()), 6)
    return functional.normalize(torch.randn(size, generator=generator), dim=3)


def _fitted(tokens: Tensor, grid: Sequence[int], **settings: Any) -> MutualBank:
    bank = MutualBank(**{"storage": "float32", **settings})
    for batch in tokens.split(3):
        bank.collect(batch, grid)
    bank.fit()
    return bank


def _plain(query: Tensor, others: list[Tensor], grid: Sequence[int], window: int, share: float, most: int) -> Tensor:
    """Distances of one scan's tokens ``(V, P, D)``: nested loops over kinds, places, scans and the places around."""
    places = list(itertools.product(*map(range, grid)))
    found = torch.zeros(len(places), dtype=torch.float64)
    for kind, (index, place) in itertools.product(range(len(query)), enumerate(places)):
        nearest = []
        for other in others:
            apart = [
                float(torch.dist(query[kind, index].double(), other[kind, i].double()))
                for i, near in enumerate(places)
                if window == 0 or all(abs(a - b) <= window // 2 for a, b in zip(place, near, strict=True))
            ]
            nearest.append(min(apart))
        count = max(1, int(share * (most - 1)))
        found[index] += sum(sorted(nearest)[:count]) / count / len(query)
    return found


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("window", [0, 1, 3])
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_distances_are_those_of_nested_loops(grid: tuple[int, ...], window: int, share: float) -> None:
    tokens = _tokens(7, grid)
    bank = _fitted(tokens, grid, window=window, share=share)
    scans = list(tokens)
    for i in (0, 4):
        expected = _plain(tokens[i], scans[:i] + scans[i + 1 :], grid, window, share, 7)
        torch.testing.assert_close(bank.own[i].double(), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(bank(tokens[i : i + 1])[0].double(), expected, rtol=1e-4, atol=1e-4)
    if share < 1:
        other = _tokens(1, grid, seed=1)
        expected = _plain(other[0], scans, grid, window, share, 7)
        torch.testing.assert_close(bank(other)[0].double(), expected, rtol=1e-4, atol=1e-4)


def test_in_parts_it_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (4, 4)
    tokens = _tokens(40, grid)
    whole = _fitted(tokens, grid)
    monkeypatch.setattr("medad_plugins.networks.fitted.mutual_bank._AT_ONCE", 7)
    torch.testing.assert_close(_fitted(tokens, grid).own, whole.own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_a_scan_is_known_by_its_tokens_but_for_rounding(storage: str) -> None:
    grid = (3, 4)
    tokens = _tokens(6, grid)
    bank = _fitted(tokens, grid, storage=storage)
    noise = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    seen = functional.normalize(tokens + 3e-3 * noise, dim=3)
    assert torch.equal(bank.copies(seen), torch.eye(6, dtype=torch.bool))
    changed = tokens.clone()
    changed[:, :, 5] = -changed[:, :, 5]
    assert not bank.copies(changed).any(), "a scan of which one place differs is another scan"
    assert float(bank(changed)[:, 5].amin()) > 0.1


def test_a_copy_does_not_hide_what_is_rare() -> None:
    grid = (3, 4)
    tokens = _tokens(1, grid).repeat(6, 1, 1, 1)
    tokens = functional.normalize(tokens + 0.05 * _tokens(6, grid, seed=1), dim=3)
    tokens[4, :, 7] = -tokens[4, :, 7]
    tokens[5] = tokens[4]
    own = _fitted(tokens, grid, window=1).own
    assert own.argmax(1)[4:].tolist() == [7, 7]
    torch.testing.assert_close(own[5], own[4])
    assert float(own[4, 7]) > 5 * float(own[:4].amax())


def test_nothing_but_copies_is_not_strange() -> None:
    bank = _fitted(_tokens(1, (3, 4)).repeat(3, 1, 1, 1), (3, 4))
    assert float(bank.own.abs().amax()) == 0


def test_a_bank_stays_as_small_as_it_is_told() -> None:
    bank = MutualBank(references=5)
    for batch in _tokens(41, (2, 2)).split(4):
        bank.collect(batch, (2, 2))
        assert len(bank.candidates) <= 10
    told: list[tuple[int, int]] = []
    bank.fit(lambda done, total: told.append((done, total)))
    assert len(bank.bank) == len(bank.own) == 5 and told[-1] == (5, 5)


@pytest.mark.parametrize("fitted", [False, True])
def test_two_sites_have_the_bank_of_one(fitted: bool) -> None:
    grid = (3, 4)
    tokens = _tokens(7, grid)
    server = torch.nn.Sequential(MutualBank(storage="float32"))
    replies = []
    for site, share in (("one", tokens[:3]), ("other", tokens[3:]), ("none", None)):
        own = MutualBank(storage="float32")
        if share is not None:
            own.collect(share, grid)
        if fitted and share is not None:
            own.fit()
        count = 0 if share is None else len(share)
        replies.append(Reply(site, count, {f"0.{n}": v for n, v in own.state_dict().items()}))
    merge_replies(server, replies)
    (merged,) = server
    assert isinstance(merged, MutualBank)
    if not fitted:
        merged.fit()
    for name, value in _fitted(tokens, grid).state_dict().items():
        torch.testing.assert_close(merged.state_dict()[name], value, msg=name)


@pytest.mark.parametrize("window", [0, 3])
def test_state_script_and_bfloat16(window: int) -> None:
    bank, queries = _fitted(_tokens(5, (3, 4)), (3, 4), window=window), _tokens(2, (3, 4), seed=1)
    other = MutualBank(window, storage="float32")
    other.load_state_dict(bank.state_dict(), strict=True)
    assert torch.equal(other(queries), bank(queries))
    torch.testing.assert_close(torch.jit.script(bank)(queries), bank(queries))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bank(queries), other(queries))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="share must lie in"):
        MutualBank(share=0)
    bank = MutualBank()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        bank(_tokens(1, (2, 2)))
    bank.collect(_tokens(1, (2, 2)), (2, 2))
    with pytest.raises(InputError, match="scans are compared with each other .expected two at least, found 1"):
        bank.fit()
    bank.collect(_tokens(3, (2, 2)), (2, 2))
    bank.fit()
    with pytest.raises(RuntimeError, match="fitted on another image size"):
        bank(_tokens(1, (2, 3)))

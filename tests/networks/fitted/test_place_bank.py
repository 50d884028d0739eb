"""A bank of tokens by place: the nearest thereabouts, what leaving out measures, what is kept and how it merges."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import PlaceBank
from medad_plugins.networks.fitted.scan_bank import even_rows

GRIDS = [(3, 4), (2, 3, 3)]


def _tokens(scans: int, grid: Sequence[int], views: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (scans, views, int(torch.tensor(grid).prod()), 6)
    return functional.normalize(torch.randn(size, generator=generator), dim=3)


def _filled(tokens: Tensor, grid: Sequence[int], **settings: int | str) -> PlaceBank:
    bank = PlaceBank(**{"storage": "float32", **settings})  # type: ignore[arg-type]
    for batch in tokens.split(3):
        bank.collect(batch, grid)
    return bank


def _plain(queries: Tensor, kept: Tensor, grid: Sequence[int], window: int, left_out: bool = False) -> Tensor:
    """Nested loops over scans, places, the places around and the scans kept."""
    places = list(itertools.product(*map(range, grid)))
    found = torch.zeros(len(queries), len(places), dtype=torch.float64)
    for scan, (index, place) in itertools.product(range(len(queries)), enumerate(places)):
        nearest = float("inf")
        for other, near in enumerate(places):
            reached = all(abs(a - b) <= window // 2 for a, b in zip(place, near, strict=True))
            if window > 0 and not reached:
                continue
            for row, view in itertools.product(range(kept.shape[0]), range(kept.shape[1])):
                if not (left_out and row == scan):
                    cosine = queries[scan, index].double() @ kept[row, view, other].double()
                    nearest = min(nearest, 1 - float(cosine))
        found[scan, index] = nearest
    return found


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("window", [0, 1, 3, 5])
@pytest.mark.parametrize("views", [1, 2])
def test_distances_are_those_of_nested_loops(grid: tuple[int, ...], window: int, views: int) -> None:
    kept, queries = _tokens(4, grid, views), _tokens(2, grid, seed=1)[:, 0]
    bank = _filled(kept, grid, window=window)
    bank.fit()
    expected = _plain(queries, kept, grid, window)
    torch.testing.assert_close(bank.distances(queries).double(), expected, rtol=1e-5, atol=1e-6)
    # the unit is the deviation of the distances of each scan to the others, never to its own views
    left_out = _plain(kept[:, 0], kept, grid, window, left_out=True)
    assert float(bank.unit) == pytest.approx(float(left_out.std(correction=0)), rel=1e-4)
    torch.testing.assert_close(bank(queries).double(), expected / float(bank.unit), rtol=1e-5, atol=1e-4)


def test_in_parts_it_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = (4, 4)
    kept, queries = _tokens(60, grid), _tokens(2, grid, seed=1)[:, 0]
    bank = _filled(kept, grid)
    bank.fit()
    whole = bank.distances(queries)
    monkeypatch.setattr(type(bank), "_at_once", lambda self, groups: 7)
    own = torch.tensor([3, 50])
    torch.testing.assert_close(bank.distances(queries), whole, rtol=0, atol=1e-6)
    assert float(bank.distances(kept[own, 0], own).amin()) > 1e-3, "of itself nothing is found"
    assert float(bank.distances(kept[own, 0]).amax()) < 1e-6


@pytest.mark.parametrize("window", [0, 3])
def test_one_scan_is_enough(window: int) -> None:
    kept = _tokens(1, (3, 4))
    bank = _filled(kept, (3, 4), window=window)
    bank.fit()
    tokens = kept[0, 0].double()
    apart = (1 - tokens @ tokens.T).fill_diagonal_(9).amin(1)
    assert float(bank.unit) == pytest.approx(float(apart.std(correction=0)), rel=1e-4)
    assert torch.isfinite(bank(_tokens(2, (3, 4), seed=1)[:, 0])).all()


def test_two_equal_scans_and_one_place_have_a_unit() -> None:
    for kept in (_tokens(1, (3, 4)).repeat(2, 1, 1, 1), _tokens(1, (1, 1))):
        bank = _filled(kept, (3, 4) if kept.shape[2] > 1 else (1, 1))
        bank.fit()
        assert float(bank.unit) == 1


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(3, 5, [0, 1, 2]), (10, 4, [0, 2, 5, 7]), (4, 4, [0, 1, 2, 3])]
)
def test_rows_that_are_kept_are_spread(count: int, most: int, expected: list[int]) -> None:
    assert even_rows(count, most).tolist() == expected


def test_a_bank_stays_as_small_as_it_is_told() -> None:
    tokens = _tokens(41, (2, 2))
    bank = PlaceBank(references=5, storage="float32")
    for batch in tokens.split(4):
        bank.collect(batch, (2, 2))
        assert len(bank.candidates) <= 10
    assert int(bank.seen) == 41 and int(bank.step) == 8
    assert torch.equal(bank.candidates, tokens[::8])
    bank.fit()
    assert len(bank.bank) == 5 and bank.candidates.numel() == 0
    bank.collect(tokens[:2], (2, 2))
    assert int(bank.seen) == 2, "collecting begins anew"


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_the_state_goes_round(storage: str) -> None:
    bank = _filled(_tokens(4, (3, 4)), (3, 4), storage=storage)
    bank.fit()
    other = PlaceBank(storage=storage)
    other.load_state_dict(bank.state_dict(), strict=True)
    queries = _tokens(2, (3, 4), seed=1)[:, 0]
    assert other.bank.dtype == getattr(torch, storage)
    assert torch.equal(other(queries), bank(queries))
    precise = _filled(_tokens(4, (3, 4)), (3, 4))
    precise.fit()
    torch.testing.assert_close(bank.distances(queries), precise.distances(queries), rtol=0, atol=1e-3)


def test_in_bfloat16_distances_stay_precise() -> None:
    tokens, queries = _tokens(4, (3, 4)), _tokens(2, (3, 4), seed=1)[:, 0]
    plain = _filled(tokens, (3, 4), storage="float16")
    plain.fit()
    with torch.autocast("cpu", torch.bfloat16):
        bank = _filled(tokens, (3, 4), storage="float16")
        bank.fit()
        found = bank(queries)
    assert torch.equal(found, plain(queries))


def test_scripted_it_gives_the_same() -> None:
    bank = _filled(_tokens(4, (3, 4)), (3, 4))
    bank.fit()
    queries = _tokens(2, (3, 4), seed=1)[:, 0]
    assert torch.equal(torch.jit.script(bank)(queries), bank(queries))


@pytest.mark.parametrize("fitted", [False, True])
def test_two_sites_have_the_bank_of_one(fitted: bool) -> None:
    tokens = _tokens(7, (3, 4))
    whole = _filled(tokens, (3, 4))
    server = torch.nn.Sequential(PlaceBank(storage="float32"))
    replies = []
    for site, share in (("one", tokens[:3]), ("other", tokens[3:]), ("none", None)):
        own = PlaceBank(storage="float32") if share is None else _filled(share, (3, 4))
        if fitted and share is not None:
            own.fit()
        count = 0 if share is None else len(share)
        replies.append(Reply(site, count, {f"0.{n}": v for n, v in own.state_dict().items()}))
    merge_replies(server, replies)
    (merged,) = server
    assert isinstance(merged, PlaceBank)
    if not fitted:
        merged.fit()
    whole.fit()
    for name, value in whole.state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


def test_refusals() -> None:
    with pytest.raises(ValueError, match="window must be odd, or 0 for anywhere, got 2"):
        PlaceBank(window=2)
    with pytest.raises(ValueError, match="references must not be negative and storage one of"):
        PlaceBank(storage="int8")
    bank = PlaceBank()
    with pytest.raises(InputError, match="no normal scan to fit the memory bank on"):
        bank.fit()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        bank(_tokens(1, (2, 2))[:, 0])
    bank.collect(_tokens(2, (2, 2)), (2, 2))
    with pytest.raises(InputError, match="tokens on other grids"):
        bank.collect(_tokens(2, (2, 3)), (2, 3))
    bank.fit()
    with pytest.raises(RuntimeError, match="fitted on another image size"):
        bank(_tokens(1, (2, 3))[:, 0])


@pytest.mark.parametrize(("coreset", "kept"), [(0.25, 5), (7, 7), (100, 20)])
def test_a_coreset_is_chosen_at_every_place(coreset: float, kept: int) -> None:
    """As by the loop that takes the furthest from what it has, beginning far from the mean."""
    tokens = _tokens(20, (2, 3))
    bank = _filled(tokens, (2, 3), coreset=coreset)  # type: ignore[arg-type]
    left_out = bank.fit()
    assert bank.bank.shape == (kept, 1, 6, 6) and left_out.shape == (20, 6)
    if kept < 20:
        for place in range(6):
            points = tokens[:, 0, place].double()
            distances, expected = (points - points.mean(0)).norm(dim=1), []
            for _ in range(kept):
                expected.append(int(distances.argmax()))
                apart = (points - points[expected[-1]]).norm(dim=1)
                distances = apart if len(expected) == 1 else torch.minimum(distances, apart)
            assert torch.equal(bank.bank[:, 0, place], tokens[expected, 0, place])
    # what is measured by leaving scans out is of all of them
    whole = _filled(tokens, (2, 3))
    torch.testing.assert_close(left_out, whole.fit())
    torch.testing.assert_close(bank.unit, whole.unit)


def test_coresets_of_sites_are_thinned_out_again() -> None:
    tokens, grid = _tokens(20, (2, 3)), (2, 3)
    server = torch.nn.Sequential(PlaceBank(storage="float32", coreset=7))
    replies, units = [], []
    for number, share in enumerate(tokens.split(10)):
        own = _filled(share, grid, coreset=7)
        own.fit()
        units.append(own.unit)
        state = {f"0.{name}": value for name, value in own.state_dict().items()}
        replies.append(Reply(f"site {number}", 10, state))
    merge_replies(server, replies)
    merged = server[0]
    assert isinstance(merged, PlaceBank)
    assert merged.bank.shape == (7, 1, 6, 6)
    torch.testing.assert_close(merged.unit, torch.stack(units).mean())
    torch.testing.assert_close(merged.halves, (merged.bank - merged.centre).square().sum(3) / 2)


def test_wrong_coreset() -> None:
    with pytest.raises(ValueError, match="coreset must be a share"):
        PlaceBank(coreset=1.5)

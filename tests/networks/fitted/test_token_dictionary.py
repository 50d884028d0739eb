"""A dictionary of normal tokens against scikit-learn's k-means and nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import TokenDictionary

GRID = (2, 3)


def _tokens(scans: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([2.0, 1.0, 0.5, 0.2, 0.01])
    return torch.randn(scans, 1, 6, 5, generator=generator) * spread + torch.arange(6.0)[:, None]


def _fitted(tokens: Tensor, **settings: Any) -> TokenDictionary:
    dictionary = TokenDictionary(**{"entries": 9, "storage": "float32", **settings})
    for batch in tokens.split(7):
        dictionary.collect(batch, GRID)
    dictionary.fit()
    return dictionary


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("share", [None, 0.9])
@pytest.mark.parametrize("place", [0.0, 0.7])
def test_distances_are_those_of_scikit_learn(neighbours: int, share: float | None, place: float) -> None:
    tokens, queries = _tokens(20), _tokens(2, seed=1)[:, 0]
    found = _fitted(tokens, neighbours=neighbours, share=share, place=place)
    drawn = torch.randperm(120, generator=torch.Generator().manual_seed(0)).numpy()
    known, asked = tokens.reshape(-1, 5).numpy()[drawn], queries.reshape(-1, 5).numpy()
    if share is not None:
        model = PCA(n_components=share, svd_solver="full").fit(known.astype(np.float64))
        known, asked = model.transform(known), model.transform(asked)
        assert known.shape[1] < 5
    at = np.array([[a, b] for a in (-0.5, 0.5) for b in (-2 / 3, 0, 2 / 3)])
    at *= place * np.sqrt(known.var(0).sum())
    if place:
        known = np.concatenate([known, at[drawn % 6]], 1)
        asked = np.concatenate([asked, np.tile(at, (2, 1))], 1)
    clusters = MiniBatchKMeans(9, batch_size=4096, max_iter=20, n_init=1, random_state=0).fit(known.astype(np.float32))
    nearest = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(clusters.cluster_centers_)[1]
    entries = known[np.unique(nearest)]
    expected = NearestNeighbors(n_neighbors=neighbours).fit(entries).kneighbors(asked)[0].mean(1)
    np.testing.assert_allclose(found(queries).flatten().numpy(), expected, rtol=2e-3, atol=1e-4)


def test_entries_are_tokens_and_what_is_unlike_all_of_them_is_far() -> None:
    tokens = _tokens(30)
    dictionary = _fitted(tokens, entries=40, share=None)
    known = tokens.flatten(0, 2)
    assert bool((dictionary.dictionary[:, None] == known).all(2).any(1).all())
    queries = tokens[:2, 0].clone()
    queries[1, 3, 4] += 8.0
    assert float(dictionary(queries)[1, 3]) > 2 * float(dictionary(tokens[:, 0]).amax())


def test_as_many_scans_as_it_is_told() -> None:
    dictionary = TokenDictionary(4, references=5)
    for batch in _tokens(41).split(4):
        dictionary.collect(batch, GRID)
        assert len(dictionary.candidates) <= 10
    dictionary.fit()
    assert dictionary.candidates.numel() == 0 and len(dictionary.dictionary) <= 4


def test_two_fitted_sites_have_the_entries_of_both() -> None:
    tokens, server = _tokens(30), torch.nn.Sequential(TokenDictionary(9, place=0.5, storage="float32"))
    fitted = [_fitted(share, place=0.5) for share in tokens.split(15)]
    states = [{f"0.{name}": value for name, value in site.state_dict().items()} for site in fitted]
    merge_replies(server, [Reply(name, 15, state) for name, state in zip(("one", "other"), states, strict=True)])
    (merged,) = server
    assert isinstance(merged, TokenDictionary)
    entries = torch.cat([site.entries_kept for site in fitted])
    assert torch.equal(merged.entries_kept, entries)
    at = torch.cat([site.entry_places for site in fitted])
    queries = tokens[:2, 0].clone()
    queries[0, int(at[0])] = entries[0]
    assert float(merged(queries)[0, int(at[0])]) < 1e-2, "an entry is no distance from itself"
    queries[1, 3, 4] += 8.0
    assert float(merged(queries)[1, 3]) > float(merged(tokens[:, 0]).amax())


def test_two_sites_have_the_dictionary_of_one() -> None:
    tokens = _tokens(12)
    server = torch.nn.Sequential(TokenDictionary(4, storage="float32"))
    replies = []
    for site, share in (("one", tokens[:5]), ("other", tokens[5:]), ("none", None)):
        own = TokenDictionary(4, storage="float32")
        if share is not None:
            own.collect(share, GRID)
        count = 0 if share is None else len(share)
        replies.append(Reply(site, count, {f"0.{n}": v for n, v in own.state_dict().items()}))
    merge_replies(server, replies)
    (merged,) = server
    assert isinstance(merged, TokenDictionary)
    merged.fit()
    whole = _fitted(tokens, entries=4)
    for name, value in whole.state_dict().items():
        assert torch.equal(merged.state_dict()[name], value), name


@pytest.mark.parametrize("settings", [{}, {"place": 0.5, "neighbours": 2, "share": None}])
def test_state_script_and_bfloat16(settings: dict[str, Any]) -> None:
    dictionary, queries = _fitted(_tokens(8), **settings), _tokens(2, seed=1)[:, 0]
    other = TokenDictionary(**settings)
    other.load_state_dict(dictionary.state_dict(), strict=True)
    assert torch.equal(other(queries), dictionary(queries))
    torch.testing.assert_close(torch.jit.script(dictionary)(queries), dictionary(queries))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dictionary(queries), other(queries))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="neighbours at most as many"):
        TokenDictionary(3, 4)
    with pytest.raises(ValueError, match="share must lie between 0 and 1"):
        TokenDictionary(share=1.5)
    dictionary = TokenDictionary(2)
    with pytest.raises(InputError, match="no normal scan"):
        dictionary.fit()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        dictionary(_tokens(1)[:, 0])
    dictionary.collect(torch.ones(2, 1, 6, 5), GRID)
    with pytest.raises(InputError, match="the same features"):
        dictionary.fit()

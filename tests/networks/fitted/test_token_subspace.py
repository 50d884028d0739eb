"""Components of normal tokens against scikit-learn's, for all places, each place, and a window of places."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import TokenSubspace

GRID = (3, 4)


def _tokens(scans: int, views: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([3.0, 2.0, 1.0, 0.3, 0.1, 0.05])
    mixing = torch.linalg.qr(torch.randn(12, 6, 6, generator=torch.Generator().manual_seed(9)))[0]
    drawn = torch.randn(scans, views, 12, 6, generator=generator) * spread
    return torch.einsum("svpd,pde->svpe", drawn, mixing) + torch.arange(12.0)[:, None]


def _fitted(tokens: Tensor, **settings: float) -> TokenSubspace:
    subspace = TokenSubspace(**settings)  # type: ignore[arg-type]
    for batch in tokens.split(3):
        subspace.collect(batch, GRID)
    subspace.fit()
    return subspace


def _plain(queries: Tensor, rows: list[Tensor], share: float) -> np.ndarray:
    """What scikit-learn's components of the rows of each place leave of the queries."""
    found = np.zeros(queries.shape[:2])
    for place, known in enumerate(rows):
        model = PCA(n_components=share, svd_solver="full").fit(known.double().numpy())
        if model.n_components_ == known.shape[1]:  # all of them would leave nothing of anything
            model = PCA(n_components=known.shape[1] - 1, svd_solver="full").fit(known.double().numpy())
        asked = queries[:, place].double().numpy()
        left = asked - model.inverse_transform(model.transform(asked))
        found[:, place] = np.linalg.norm(left, axis=1)
    return found


@pytest.mark.parametrize("share", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("window", [0, 1, 3])
@pytest.mark.parametrize("views", [1, 2])
def test_the_distance_is_what_components_leave(share: float, window: int, views: int) -> None:
    tokens, queries = _tokens(20, views), _tokens(2, seed=1)[:, 0]
    places = list(itertools.product(*map(range, GRID)))
    rows = []
    for place in places:
        near = [i for i, other in enumerate(places) if max(abs(a - b) for a, b in zip(place, other)) <= window // 2]
        rows.append(tokens[:, :, near if window else slice(None)].flatten(0, 2))
    found = _fitted(tokens, share=share, window=window)(queries)
    np.testing.assert_allclose(found.numpy(), _plain(queries, rows, share), rtol=1e-3, atol=1e-3)


def test_a_place_where_nothing_changes_leaves_every_change() -> None:
    tokens = _tokens(10)
    tokens[:, :, 5] = 1.0
    queries = tokens[:1, 0].clone()
    queries[0, 5, 0] += 2.0
    assert float(_fitted(tokens, window=1)(queries)[0, 5]) == pytest.approx(2.0, rel=1e-4)


def test_fewer_scans_than_values_are_explained_but_others_are_not() -> None:
    tokens = _tokens(3)
    subspace = _fitted(tokens, share=0.999, window=1)
    assert float(subspace(tokens[:, 0]).amax()) < 0.2 < float(subspace(_tokens(3, seed=1)[:, 0]).amax(1).amin())


@pytest.mark.parametrize("window", [0, 3])
def test_two_sites_have_the_components_of_one(window: int) -> None:
    tokens, queries = _tokens(12), _tokens(2, seed=1)[:, 0]
    server = torch.nn.Sequential(TokenSubspace(window=window))
    replies = []
    for site, share in (("one", tokens[:5]), ("other", tokens[5:]), ("none", None)):
        own = TokenSubspace(window=window)
        if share is not None:
            own.collect(share, GRID)
        count = 0 if share is None else len(share)
        replies.append(Reply(site, count, {f"0.{n}": v for n, v in own.state_dict().items()}))
    merge_replies(server, replies)
    (merged,) = server
    assert isinstance(merged, TokenSubspace)
    merged.fit()
    torch.testing.assert_close(merged(queries), _fitted(tokens, window=window)(queries), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [0, 1])
def test_state_script_and_bfloat16(window: int) -> None:
    subspace, queries = _fitted(_tokens(8), window=window), _tokens(2, seed=1)[:, 0]
    other = TokenSubspace(window=window)
    other.load_state_dict(subspace.state_dict(), strict=True)
    assert torch.equal(other(queries), subspace(queries))
    assert torch.equal(torch.jit.script(subspace)(queries), subspace(queries))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(subspace(queries), other(queries))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="share must lie between 0 and 1, got 1"):
        TokenSubspace(1.0)
    with pytest.raises(ValueError, match="window must be odd"):
        TokenSubspace(window=2)
    subspace = TokenSubspace(window=1)
    with pytest.raises(InputError, match="components need two normal scans"):
        subspace.fit()
    with pytest.raises(RuntimeError, match="has not been fitted"):
        subspace(_tokens(1)[:, 0])
    subspace.collect(torch.ones(3, 1, 12, 6), GRID)
    with pytest.raises(InputError, match="tokens on other grids"):
        subspace.collect(torch.ones(3, 1, 6, 6), (2, 3))
    with pytest.raises(InputError, match="the same features"):
        subspace.fit()
    with pytest.raises(RuntimeError, match="fitted on another image size"):
        _fitted(_tokens(8), window=1)(_tokens(1)[:, 0, :6])

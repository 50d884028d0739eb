"""Collecting vectors of normal scans, preparing them, and fitting again what several sites collected."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.federated import Reply, merge_replies
from medad_plugins.networks import IsolationTrees, KernelSupport, LowRankGaussian, VectorDetector, VectorPreparation


def _vectors(count: int, dimensions: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 + torch.randn(count, dimensions, generator=generator) * torch.arange(1.0, dimensions + 1)


def _detector(most: int = 5000, seed: int = 0) -> VectorDetector:
    return VectorDetector(VectorPreparation("standard"), KernelSupport(), most, seed)


# preparation


@pytest.mark.parametrize("components", [None, 3, 0.8])
@pytest.mark.parametrize("scaling", ["none", "unit", "standard"])
def test_preparation_is_scikit_learns(scaling: str, components: float | None) -> None:
    normal, queries = _vectors(30), _vectors(5, seed=1)
    preparation = VectorPreparation(scaling, components)
    preparation.fit(normal)
    x, q = normal.double().numpy(), queries.double().numpy()
    if scaling == "unit":
        x, q = normalize(x), normalize(q)
    if components is not None:
        found = PCA(components, svd_solver="full").fit(x)
        x, q = found.transform(x), found.transform(q)
    if scaling == "standard":
        q = StandardScaler().fit(x).transform(q)
    np.testing.assert_allclose(preparation(queries).numpy(), q, rtol=1e-4, atol=1e-5)


def test_values_that_never_change_stay() -> None:
    """The air around a head must not be divided by next to nothing."""
    normal = torch.cat([_vectors(30), torch.zeros(30, 2)], 1)
    preparation = VectorPreparation("standard")
    preparation.fit(normal)
    assert preparation(torch.ones(1, 8))[0, 6:].tolist() == [1.0, 1.0]


def test_components_that_the_scans_do_not_allow() -> None:
    with pytest.raises(InputError, match=r"--components 8 .expected at most 4.*found 5 scans of 20 values.; list more"):
        VectorPreparation(components=8).fit(_vectors(5, 20))
    with pytest.raises(InputError, match="expected at most 3"):
        VectorPreparation(components=4).fit(_vectors(50, 3))
    for components in (0, 2.5):
        with pytest.raises(ValueError, match="components must be"):
            VectorPreparation(components=components)
    with pytest.raises(ValueError, match="scaling must be"):
        VectorPreparation("all")


# collecting


def test_batches_do_not_matter() -> None:
    vectors = _vectors(40)
    one, other = _detector(), _detector()
    one.collect(vectors)
    for batch in vectors.split(7):
        other.collect(batch)
    one.fit()
    other.fit()
    assert torch.equal(one.vectors, other.vectors)
    assert torch.equal(one(vectors), other(vectors))


def test_of_many_vectors_some_are_drawn_evenly() -> None:
    counts = torch.zeros(100)
    for seed in range(200):
        detector = _detector(most=20, seed=1000 * seed)
        for batch in torch.arange(100.0)[:, None].split(9):
            detector.collect(batch)
        assert int(detector.seen) == 100
        drawn = detector.vectors[:, 0].long()
        assert len(drawn) == len(set(drawn.tolist())) == 20
        assert torch.equal(drawn, drawn.sort().values)
        counts[drawn] += 1
    # 40 expected, of a standard deviation of 5.7
    assert counts.min() > 15 and counts.max() < 65
    halves = counts.reshape(2, 50).mean(1)
    assert abs(float(halves[0]) - 40) < 3


def test_a_second_fit_begins_anew() -> None:
    detector = _detector()
    detector.collect(_vectors(30))
    detector.fit()
    detector.collect(_vectors(10, seed=3))
    detector.fit()
    assert int(detector.seen) == len(detector.vectors) == 10


def test_scans_that_nothing_can_be_fitted_to() -> None:
    with pytest.raises(InputError, match=r"needs at least two normal scans .found 0."):
        _detector().fit()
    detector = _detector()
    detector.collect(_vectors(1))
    with pytest.raises(InputError, match=r"needs at least two normal scans .found 1."):
        detector.fit()
    detector.collect(_vectors(1).expand(4, -1))
    with pytest.raises(InputError, match=r"the normal scans have the same features .found 4 scans."):
        detector.fit()
    with pytest.raises(ValueError, match="most must be"):
        _detector(most=1)


# several sites


@pytest.mark.parametrize("head", [KernelSupport, IsolationTrees, LowRankGaussian])
def test_sites_together_are_as_one(head: type) -> None:
    vectors = _vectors(30)
    states = {}
    for site, share in (("north", vectors[:8]), ("south", vectors[8:])):
        own = VectorDetector(VectorPreparation("standard", 3), head())
        own.collect(share)
        own.fit()
        states[site] = own.state_dict()
    merged, pooled = (VectorDetector(VectorPreparation("standard", 3), head()) for _ in range(2))
    merge_replies(merged, [Reply("north", 8, states["north"]), Reply("south", 22, states["south"])])
    pooled.collect(vectors)
    pooled.fit()
    assert int(merged.seen) == 30
    torch.testing.assert_close(merged(_vectors(5, seed=2)), pooled(_vectors(5, seed=2)), rtol=1e-5, atol=1e-5)


def test_what_sites_have_too_many_of_is_drawn_again() -> None:
    states = []
    for seed in (0, 1):
        own = _detector(most=20, seed=seed)
        own.collect(_vectors(15, seed=seed))
        own.fit()
        states.append(own.state_dict())
    merged = _detector(most=20)
    merge_replies(merged, [Reply("a", 15, states[0]), Reply("b", 15, states[1])])
    assert (int(merged.seen), len(merged.vectors)) == (30, 20)

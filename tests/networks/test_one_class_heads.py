"""Classic detectors of vectors: each against scikit-learn's own score on new data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity, LocalOutlierFactor
from sklearn.svm import OneClassSVM
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.networks import (
    ClusterDistance,
    DensityRatio,
    GaussianMixtureHead,
    IsolationTrees,
    KernelDensityHead,
    KernelSupport,
    LinearSupport,
    LocalOutliers,
    LowRankGaussian,
    MedianDeviation,
    NearestNeighbours,
    RobustGaussian,
    SelfRepresentation,
    SketchSubspace,
)
from medad_plugins.networks.fitted.one_class_head import OneClassHead, squared_distances, unit_gamma

Floats = NDArray[np.float64]
HEADS: list[Callable[[], OneClassHead]] = [
    KernelSupport,
    lambda: KernelSupport(ball=True),
    KernelDensityHead,
    lambda: LocalOutliers(5),
    IsolationTrees,
    LowRankGaussian,
    lambda: NearestNeighbours(5),
    lambda: NearestNeighbours(5, last=True),
    lambda: GaussianMixtureHead(2),
    lambda: ClusterDistance(3),
    RobustGaussian,
    MedianDeviation,
    lambda: DensityRatio("ulsif"),
    lambda: DensityRatio("kliep"),
    lambda: SketchSubspace(2),
]
# their scores are of directions, not of distances
DIRECTIONS: list[Callable[[], OneClassHead]] = [LinearSupport, SelfRepresentation]
SHAPES = [(60, 12), (30, 80), (300, 6)]


def _normal(count: int, dimensions: int, offset: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dimensions, dimensions, generator=generator) / dimensions**0.5
    return offset + torch.randn(count, dimensions, generator=generator) @ mixing


def _queries(normal: Tensor) -> Tensor:
    """A normal vector itself, some near normal ones, and some far away."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(6, normal.shape[1], generator=generator)
    return torch.cat([normal[:1], normal[:5] + 0.1 * noise[:5], 3 + 2 * noise])


def _fitted(head: OneClassHead, normal: Tensor) -> OneClassHead:
    head.fit(normal)
    return head.eval()


@torch.no_grad()
def _scores(head: OneClassHead, queries: Tensor) -> Floats:
    return head(queries).double().numpy()


def _double(vectors: Tensor) -> Floats:
    return vectors.double().numpy()


@pytest.mark.parametrize("nu", [0.05, 0.5])
@pytest.mark.parametrize("units", [1.0, 3.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_class_machine_is_scikit_learns(shape: tuple[int, int], units: float, nu: float) -> None:
    normal = _normal(*shape)
    queries = _queries(normal)
    x = _double(normal)
    machine = OneClassSVM(gamma=units / (shape[1] * x.var()), nu=nu, tol=1e-6).fit(x)
    head = KernelSupport(nu, units)
    _fitted(head, normal)
    total = machine.dual_coef_.sum()
    expected = -np.log(machine.score_samples(_double(queries)) / total)
    np.testing.assert_allclose(_scores(head, queries), expected, rtol=1e-5, atol=1e-5)
    assert float(head.boundary) == pytest.approx(-math.log(machine.offset_[0] / total), rel=1e-5)
    # who lies outside is the machine's own decision; on the boundary lie support vectors, which decide nothing
    clear = np.abs(machine.decision_function(_double(queries))) > 1e-6
    outside = _scores(head, queries) > float(head.boundary)
    np.testing.assert_array_equal(outside[clear], (machine.predict(_double(queries)) < 0)[clear])


def test_gamma_is_what_scikit_learn_calls_scale() -> None:
    x = _normal(40, 5)
    assert unit_gamma(x) == pytest.approx(OneClassSVM(gamma="scale").fit(_double(x))._gamma)


def test_far_vectors_are_still_distinguished() -> None:
    """The kernel itself is 0 in single precision for both of them."""
    head = _fitted(KernelSupport(), _normal(40, 5))
    near, far = _scores(head, torch.stack([torch.full((5,), 60.0), torch.full((5,), 90.0)]))
    assert np.isfinite(far) and far > near > 100


def test_data_description_encloses_as_the_quadratic_programme_does() -> None:
    """The smallest ball in the kernel's space, by a general solver for its dual."""
    normal, nu = _normal(20, 3), 0.2
    gamma = unit_gamma(normal)
    x, queries = _double(normal), _double(_queries(normal))

    def kernel(one: Floats, other: Floats) -> Floats:
        return np.exp(-gamma * ((one[:, None] - other[None]) ** 2).sum(2))

    matrix, count = kernel(x, x), len(x)
    found = minimize(
        lambda a: a @ matrix @ a - a @ matrix.diagonal(),
        np.full(count, 1 / count),
        jac=lambda a: 2 * matrix @ a - matrix.diagonal(),
        bounds=[(0, 1 / (nu * count))] * count,
        constraints={"type": "eq", "fun": lambda a: a.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    alpha = found.x
    constant = alpha @ matrix @ alpha
    squared = 1 - 2 * kernel(queries, x) @ alpha + constant
    on_surface = (alpha > 1e-4 / count) & (alpha < (1 - 1e-4) / (nu * count))
    radius = (1 - 2 * matrix @ alpha + constant)[on_surface]
    assert len(radius) and np.ptp(radius) < 1e-4

    head = KernelSupport(nu, ball=True)
    _fitted(head, normal)
    own = head.weights @ torch.exp(-gamma * squared_distances(head.support, head.support)) @ head.weights
    assert float(own) == pytest.approx(constant, rel=1e-3)
    mean_kernel = np.exp(-_scores(head, torch.from_numpy(queries)) * float(head.boundary))
    np.testing.assert_allclose(1 - 2 * mean_kernel + float(own), squared, atol=1e-3)
    np.testing.assert_array_equal(_scores(head, torch.from_numpy(queries)) > 1.001, squared > radius.mean() * 1.001)


@pytest.mark.parametrize("units", [1.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_density_is_scikit_learns(shape: tuple[int, int], units: float) -> None:
    normal = _normal(*shape)
    queries = _queries(normal)
    head = KernelDensityHead(units)
    _fitted(head, normal)
    # in one leaf: its tree adds up far tails as differences of logarithms and is off by a third there
    density = KernelDensity(bandwidth=head.bandwidth, leaf_size=len(normal)).fit(_double(normal))
    # all but the Gaussians' constant
    constant = -shape[1] / 2 * math.log(2 * math.pi * head.bandwidth**2)
    expected = constant - density.score_samples(_double(queries))
    np.testing.assert_allclose(_scores(head, queries), expected, rtol=1e-5, atol=1e-5)
    assert head.bandwidth == pytest.approx(math.sqrt(1 / (2 * units * unit_gamma(normal))))


@pytest.mark.parametrize("neighbours", [1, 5, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_local_outlier_factor_is_scikit_learns(shape: tuple[int, int], neighbours: int) -> None:
    normal = _normal(*shape)
    queries = _queries(normal)
    head = _fitted(LocalOutliers(neighbours), normal)
    reference = LocalOutlierFactor(neighbours, novelty=True).fit(_double(normal))
    np.testing.assert_allclose(_scores(head, queries), -reference.score_samples(_double(queries)), rtol=1e-5)


def test_local_outlier_factor_of_vectors_far_from_the_origin() -> None:
    """Distances come from differences: by products alone they would drown in what single precision drops."""
    normal = 0.01 * _normal(60, 4) + 100
    queries = 0.01 * _queries(_normal(60, 4)) + 100
    head = _fitted(LocalOutliers(5), normal)
    reference = LocalOutlierFactor(5, novelty=True).fit(_double(normal))
    np.testing.assert_allclose(_scores(head, queries), -reference.score_samples(_double(queries)), rtol=1e-3)


@pytest.mark.parametrize(("trees", "samples"), [(100, 256), (7, 16), (3, 2)])
@pytest.mark.parametrize("shape", SHAPES)
def test_isolation_forest_is_scikit_learns(shape: tuple[int, int], trees: int, samples: int) -> None:
    normal = _normal(*shape)
    queries = torch.cat([_queries(normal), normal])
    head = _fitted(IsolationTrees(trees, samples, seed=3), normal)
    reference = IsolationForest(n_estimators=trees, max_samples=min(samples, len(normal)), random_state=3)
    expected = -reference.fit(_double(normal)).score_samples(_double(queries))
    np.testing.assert_allclose(_scores(head, queries), expected, rtol=1e-5)


def test_isolation_forest_cuts_where_scikit_learn_cuts() -> None:
    """Values on both sides of every threshold, as near to it as single precision gets."""
    normal = _normal(200, 1)
    head = IsolationTrees(20, 128)
    _fitted(head, normal)
    at = head.threshold[head.below != torch.arange(len(head.below))]
    above = torch.nextafter(at, torch.tensor(torch.inf))
    queries = torch.cat([at, above, torch.nextafter(at, torch.tensor(-torch.inf))])[:, None]
    reference = IsolationForest(n_estimators=20, max_samples=128, random_state=0).fit(_double(normal))
    expected = -reference.score_samples(_double(queries))
    np.testing.assert_allclose(_scores(head, queries), expected, rtol=1e-5)
    assert len(np.unique(expected)) > 100


@pytest.mark.parametrize("shape", [*SHAPES, (5, 3), (400, 3)])
def test_low_rank_gaussian_is_scikit_learns(shape: tuple[int, int]) -> None:
    normal = _normal(*shape)
    queries = _queries(normal)
    head = LowRankGaussian()
    _fitted(head, normal)
    reference = LedoitWolf().fit(_double(normal))
    expected = np.sqrt(reference.mahalanobis(_double(queries)) / shape[1])
    np.testing.assert_allclose(_scores(head, queries), expected, rtol=1e-5, atol=1e-5)
    assert float(head.shrinkage) == pytest.approx(reference.shrinkage_, rel=1e-5)
    assert len(head.components) == min(shape[1], shape[0] - 1)


def test_what_the_vectors_do_not_span_counts() -> None:
    normal = _normal(10, 6)
    normal[:, 0] = 1.0
    head = _fitted(LowRankGaussian(), normal)
    away = normal[:1].clone()
    away[0, 0] = 9.0
    assert _scores(head, away)[0] > 3 * _scores(head, normal[:1])[0]


@pytest.mark.parametrize("make", HEADS)
def test_scores_rise_with_the_distance_and_are_exported(make: Callable[[], OneClassHead]) -> None:
    normal = _normal(60, 4, offset=0.0)
    head = make()
    with pytest.raises(RuntimeError, match="ha(s|ve) not been fitted"):
        head(normal)
    _fitted(head, normal)
    steps = torch.linspace(0, 12, 7)[:, None] * torch.ones(1, 4)
    scores = _scores(head, steps)
    assert (scores >= 0).all() and scores[-1] == scores.max() > 1.2 * scores[0]
    scripted = torch.jit.script(head)
    np.testing.assert_allclose(scripted(steps).numpy(), scores, rtol=1e-6)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(head, (steps,), dynamic_shapes=({0: batch},)).module()
    np.testing.assert_allclose(program(steps[:3]).numpy(), scores[:3], rtol=1e-5)


@pytest.mark.parametrize("make", [*HEADS, *DIRECTIONS])
def test_the_state_fits_an_unfitted_head_strictly(make: Callable[[], OneClassHead]) -> None:
    normal = _normal(60, 4)
    head, other = _fitted(make(), normal), make()
    other.load_state_dict(head.state_dict(), strict=True)
    np.testing.assert_array_equal(_scores(other, _queries(normal)), _scores(head, _queries(normal)))
    assert all(value.dtype in (torch.float32, torch.long) for value in head.state_dict().values())


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match=r"not more normal scans than neighbours: --neighbours 20 .expected at most 9"):
        LocalOutliers(20).fit(_normal(10, 3))
    for head in (KernelSupport(), KernelDensityHead(), LowRankGaussian()):
        with pytest.raises(InputError, match="the normal scans have the same features"):
            head.fit(torch.ones(5, 3))
    for wrong in (
        lambda: KernelSupport(nu=0),
        lambda: KernelSupport(gamma=0),
        lambda: KernelDensityHead(0),
        lambda: LocalOutliers(0),
        lambda: IsolationTrees(0),
    ):
        with pytest.raises(ValueError, match="must"):
            wrong()

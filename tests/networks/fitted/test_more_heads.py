"""Heads on vectors beside the first six, each against scikit-learn, a general solver, or a plain sum."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.covariance import MinCovDet
from sklearn.linear_model import ElasticNet
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors as Search
from sklearn.svm import OneClassSVM
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.networks.fitted.cluster_distance import ClusterDistance
from medad_plugins.networks.fitted.density_ratio import DensityRatio, kliep, ulsif
from medad_plugins.networks.fitted.gaussian_mixture import GaussianMixtureHead
from medad_plugins.networks.fitted.linear_support import LinearSupport
from medad_plugins.networks.fitted.median_deviation import MedianDeviation
from medad_plugins.networks.fitted.nearest_neighbours import NearestNeighbours
from medad_plugins.networks.fitted.one_class_head import OneClassHead, softly_positive, standard_of, unit_gamma
from medad_plugins.networks.fitted.pyod_head import PyODHead
from medad_plugins.networks.fitted.robust_gaussian import RobustGaussian
from medad_plugins.networks.fitted.self_representation import SelfRepresentation
from medad_plugins.networks.fitted.sketch_subspace import SketchSubspace, frequent_directions

Floats = NDArray[np.float64]


def _normal(count: int = 80, dimensions: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator) / dimensions**0.5
    return 3 + torch.randn(count, dimensions, generator=generator) @ mixing


def _queries(dimensions: int = 6) -> Tensor:
    return 3 + torch.linspace(0.2, 4, 9)[:, None] * torch.randn(
        9, dimensions, generator=torch.Generator().manual_seed(1)
    )


@torch.no_grad()
def _scores(head: OneClassHead, normal: Tensor, queries: Tensor) -> Floats:
    head.fit(normal)
    found: Floats = head.eval()(queries).double().numpy()
    return found


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("neighbours", [1, 4])
def test_neighbours_are_scikit_learns(neighbours: int, last: bool) -> None:
    normal, queries = _normal(), _queries()
    distances = Search(n_neighbors=neighbours).fit(normal.double().numpy()).kneighbors(queries.double().numpy())[0]
    expected = distances[:, -1] if last else distances.mean(1)
    np.testing.assert_allclose(_scores(NearestNeighbours(neighbours, last), normal, queries), expected, rtol=1e-5)


@pytest.mark.parametrize("clusters", [1, 3])
def test_mixture_is_scikit_learns(clusters: int) -> None:
    normal, queries = _normal(), _queries()
    head = GaussianMixtureHead(clusters, seed=2, ridge=1e-2)
    found = _scores(head, normal, queries)
    x = normal.double().numpy()
    mixture = GaussianMixture(clusters, reg_covar=1e-2 * x.var(0).mean(), random_state=2).fit(x)
    expected = -mixture.score_samples(queries.double().numpy())
    np.testing.assert_allclose(found * 6 + float(head.least), expected, rtol=1e-4, atol=1e-4)
    # nothing is more probable than where all components peak at once
    peaks = [
        np.log(w) - 0.5 * np.linalg.slogdet(2 * np.pi * c)[1] for w, c in zip(mixture.weights_, mixture.covariances_)
    ]
    assert float(head.least) == pytest.approx(-np.logaddexp.reduce(peaks), rel=1e-4)
    assert (found >= 0).all()


def test_clusters_are_scikit_learns() -> None:
    normal, queries = _normal(), _queries()
    found = KMeans(3, n_init=10, random_state=1).fit(normal.double().numpy())
    expected = found.transform(queries.double().numpy()).min(1)
    np.testing.assert_allclose(_scores(ClusterDistance(3, seed=1), normal, queries), expected, rtol=1e-5)


def test_robust_covariance_is_scikit_learns_and_is_not_moved_by_a_few() -> None:
    normal, queries = _normal(200), _queries()
    normal[:30] += 40.0  # scans that are not normal after all
    found = _scores(RobustGaussian(seed=4), normal, queries)
    reference = MinCovDet(random_state=4).fit(normal.double().numpy())
    expected = np.sqrt(reference.mahalanobis(queries.double().numpy()) / 6)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    clean = _scores(RobustGaussian(seed=4), normal[30:], queries)
    assert np.abs(np.log(found / clean)).max() < 0.3


def test_median_by_hand() -> None:
    normal, queries = _normal(81), _queries()
    normal[:, 5] = 1.0
    found = _scores(MedianDeviation(), normal, queries)
    x, q = normal.double().numpy(), queries.double().numpy()
    median = np.median(x, 0)
    scale = 1.4826 * np.median(np.abs(x - median), 0)
    scale[5] = scale[:5].min()
    np.testing.assert_allclose(found, np.abs((q - median) / scale).mean(1), rtol=1e-5)


def test_linear_machine_is_scikit_learns_in_its_order() -> None:
    normal, queries = _normal(), _queries()
    head = LinearSupport(nu=0.2)
    found = _scores(head, normal, queries)
    machine = OneClassSVM(kernel="linear", nu=0.2, tol=1e-9).fit(normal.double().numpy())
    length = np.linalg.norm(machine.coef_)
    expected = -machine.decision_function(queries.double().numpy()) / length
    np.testing.assert_allclose(
        head.offset.item() - queries.double().numpy() @ head.normal.double().numpy(), expected, rtol=1e-2, atol=1e-3
    )
    np.testing.assert_array_equal(np.argsort(found), np.argsort(expected))
    assert (found > 0).all()


def test_softly_positive_keeps_the_order() -> None:
    scores = torch.cat([torch.linspace(-9, 9, 50), torch.tensor([1e4])])
    mean, deviation = standard_of(torch.tensor([-1.0, 0.0, 1.0]))
    bent = softly_positive(scores, mean, deviation)
    assert bool((bent.diff() > 0).all()) and float(bent[0]) > 0
    assert float(bent[-1]) == pytest.approx(1e4 / float(deviation) + 3)


def _kernels(normal: Floats, reference: Floats, gamma: float) -> tuple[Floats, Floats]:
    def kernel(points: Floats) -> Floats:
        return np.exp(-gamma * ((points[:, None] - normal) ** 2).sum(2))

    return kernel(normal), kernel(reference)


def test_density_ratios_are_those_that_their_objectives_ask_for() -> None:
    """In one dimension, where the true ratio is known: of a Gaussian to one of twice its deviation."""
    random = np.random.RandomState(0)
    normal, reference = random.randn(400, 1), 2 * random.randn(400, 1)
    at_normal, at_reference = _kernels(normal, reference, 0.5)
    grid = np.linspace(-3, 3, 25)[:, None]
    truth = 2 * np.exp(-(grid[:, 0] ** 2) * (1 / 2 - 1 / 8))
    for weights in (ulsif(at_normal, at_reference), kliep(at_normal, at_reference)):
        assert (weights >= 0).all()
        ratio = np.exp(-0.5 * (grid - normal.T) ** 2) @ weights
        assert np.corrcoef(ratio, truth)[0, 1] > 0.97 and np.abs(ratio - truth).max() < 0.5
    # least squares: the free solution makes the gradient of its objective 0
    matrix = at_reference.T @ at_reference / 400
    free = np.linalg.solve(matrix + 0.1 * np.eye(400), at_normal.mean(0))
    np.testing.assert_allclose(ulsif(at_normal, at_reference), free.clip(0))
    # likelihood: the mean over the reference is 1, and no small step that keeps it there is better
    weights = kliep(at_normal, at_reference, steps=2000)
    assert (at_reference @ weights).mean() == pytest.approx(1)
    best = np.log(at_normal @ weights).mean()
    for _ in range(20):
        other = weights * np.exp(0.3 * random.randn(400))
        other /= (at_reference @ other).mean()
        assert np.log(at_normal @ other).mean() < best + 1e-4


@pytest.mark.parametrize("objective", ["ulsif", "kliep"])
def test_density_ratio_scores_are_minus_the_logarithm_of_the_ratio(objective: str) -> None:
    normal, queries = _normal(), _queries()
    head = DensityRatio(objective)
    found = _scores(head, normal, queries)
    weights, centres = head.log_weights.exp().double().numpy(), head.centres.double().numpy()
    apart = ((queries.double().numpy()[:, None] - centres) ** 2).sum(2)
    expected = np.log(weights.sum()) - np.log(np.exp(-unit_gamma(normal) * apart) @ weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_sketch_stands_for_all_vectors() -> None:
    rows = _normal(300, 20).double() - 3
    rows[:, :3] *= 6
    sketch = frequent_directions(rows, 16)
    assert sketch.shape == (16, 20)
    gap = torch.linalg.eigvalsh(rows.T @ rows - sketch.T @ sketch)
    assert float(gap[0]) > -1e-6 and float(gap[-1]) <= float(rows.square().sum() / 8) + 1e-6
    few = rows[:5]
    torch.testing.assert_close(frequent_directions(few, 16).T @ frequent_directions(few, 16), few.T @ few)


def test_sketch_scores_what_lies_outside_its_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, 8, generator=generator)
    normal = 1 + torch.randn(100, 2, generator=generator) @ plane
    queries = torch.cat(
        [normal[:3], normal[:3] + torch.linalg.qr(torch.cat([plane, torch.ones(6, 8).triu()]).T)[0][:, 2]]
    )
    found = _scores(SketchSubspace(2), normal, queries)
    np.testing.assert_allclose(found, [0, 0, 0, *3 * [8**-0.5]], atol=1e-4)


def test_representation_is_scikit_learns_elastic_net() -> None:
    normal, queries = _normal(30, 12), _queries(12)
    found = _scores(SelfRepresentation(penalty=0.2, mix=0.7, steps=3000), normal, queries)
    bank = normal.double().numpy() - normal.double().numpy().mean(0)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    for query, score in zip(queries.double().numpy() - normal.double().numpy().mean(0), found, strict=True):
        x = query / np.linalg.norm(query)
        strength = 0.2 * np.abs(bank @ x).max()
        # scikit-learn divides the squares by twice the number of values
        net = ElasticNet(alpha=strength / 12, l1_ratio=0.7, fit_intercept=False, tol=1e-10, max_iter=100000)
        left = x - bank.T @ net.fit(bank.T, x).coef_
        assert score == pytest.approx(np.linalg.norm(left), rel=1e-3)


def test_representation_knows_what_is_a_sum_of_normal_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(60, 3, generator=generator) @ torch.eye(3, 10)
    queries = torch.cat(
        [torch.randn(5, 3, generator=generator) @ torch.eye(3, 10), torch.randn(5, 10, generator=generator)]
    )
    found = _scores(SelfRepresentation(), normal, queries)
    assert found[:5].max() < 0.3 < 0.6 < found[5:].min()


def test_what_cannot_be_fitted() -> None:
    for head, sentence in (
        (ClusterDistance(5), "too few normal scans for so many clusters"),
        (GaussianMixtureHead(5), "too few normal scans for so many clusters"),
        (RobustGaussian(), "a robust covariance needs more normal scans than their vectors have values"),
        (SketchSubspace(6), "the normal scans do not have so many directions"),
        (NearestNeighbours(41), "fewer normal scans than neighbours"),
    ):
        with pytest.raises(InputError, match=sentence):
            head.fit(_normal(40, 12 if isinstance(head, RobustGaussian) else 6))
    for wrong in (
        lambda: ClusterDistance(0),
        lambda: GaussianMixtureHead(0),
        lambda: DensityRatio("lsif"),
        lambda: DensityRatio(spread=1.0),
        lambda: SketchSubspace(0),
        lambda: SelfRepresentation(0.0),
        lambda: LinearSupport(0),
    ):
        with pytest.raises(ValueError, match=r"must|out of range"):
            wrong()


@pytest.fixture
def pyod_like(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules in PyOD's places with detectors that keep its contract, whether PyOD is installed or not."""
    package, base, mean, two = (
        types.ModuleType(f"pyod{name}") for name in ("", ".models.base", ".models.mean", ".models.two")
    )
    models = types.ModuleType("pyod.models")

    class BaseDetector:
        pass

    class Mean(BaseDetector):
        def __init__(self, contamination: float = 0.1, random_state: int | None = None) -> None:
            self.random_state = random_state

        def fit(self, x: Floats) -> None:
            self.centre = x.mean(0) + (self.random_state or 0)

        def decision_function(self, x: Floats) -> Floats:
            found: Floats = np.linalg.norm(x - self.centre, axis=1) - 5
            return found

    Mean.__module__ = "pyod.models.mean"
    base.BaseDetector, mean.Mean, mean.BaseDetector, two.Mean = BaseDetector, Mean, BaseDetector, Mean  # type: ignore[attr-defined]
    for module in (package, models, base, mean, two):
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield


@torch.no_grad()
def test_pyod_adapter(pyod_like: None) -> None:
    normal, queries = _normal(), _queries()
    head = PyODHead("mean", seed=1)
    with pytest.raises(RuntimeError, match="has not been fitted"):
        head(queries)
    found = _scores(head, normal, queries)
    distances = np.linalg.norm(queries.double().numpy() - normal.double().numpy().mean(0) - 1, axis=1)
    np.testing.assert_array_equal(np.argsort(found), np.argsort(distances))
    assert (found > 0).all()
    other = PyODHead("mean", seed=1)
    other.load_state_dict(head.state_dict(), strict=True)
    np.testing.assert_array_equal(other(queries).double().numpy(), found)
    assert all(value.dtype == torch.float32 for value in head.state_dict().values()), "no pickled objects"
    with pytest.raises(Exception, match="cannot be exported"):
        torch.jit.script(head)(queries)
    for name in ("two", "nothing", "../mean"):
        with pytest.raises(InputError, match="PyOD has no such detector"):
            PyODHead(name)


@pytest.mark.parametrize("name", ["ecod", "copod", "hbos", "iforest"])
def test_pyods_own_detectors(name: str) -> None:
    pytest.importorskip("pyod", reason="PyOD is not installed; it comes with medad-plugins[pyod]")
    normal, queries = _normal(), _queries()
    found = _scores(PyODHead(name), normal, torch.cat([normal, queries + 30]))
    assert found[80:].min() > np.quantile(found[:80], 0.9)


def test_pyod_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyod", None)
    with pytest.raises(InputError, match="PyOD is not installed"):
        PyODHead("ecod")

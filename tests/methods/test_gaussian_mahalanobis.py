"""Gaussians of pooled features: the shrinkage against scikit-learn's, the score against plain sums."""

from __future__ import annotations

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_resnet import varied_taps
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.methods.gaussian_mahalanobis import GaussianMahalanobis
from medad_plugins.networks import ShrunkGaussian


def _vectors(count: int, dimensions: int, seed: int = 0, offset: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99))
    return offset + torch.randn(count, dimensions, generator=generator) @ mixing


def _fitted(vectors: Tensor, leave_out: float = 0.0, batch_size: int = 7) -> ShrunkGaussian:
    gaussian = ShrunkGaussian(leave_out)
    for batch in vectors.split(batch_size):
        gaussian.collect(batch)
    gaussian.fit()
    return gaussian


@pytest.mark.parametrize("offset", [0.0, 3.0, 100.0])
@pytest.mark.parametrize(("count", "dimensions"), [(2, 3), (3, 7), (10, 40), (20, 5), (400, 30)])
def test_shrinkage_is_scikit_learns(count: int, dimensions: int, offset: float) -> None:
    vectors = _vectors(count, dimensions, offset=offset)
    gaussian, reference = _fitted(vectors), LedoitWolf().fit(vectors.double().numpy())
    assert float(gaussian.shrinkage) == pytest.approx(reference.shrinkage_, rel=1e-5, abs=1e-5)
    if count == 2:
        return  # not shrunk at all: scikit-learn takes a pseudo-inverse, here what two scans do not span is far
    others = _vectors(6, dimensions, seed=1, offset=offset)
    expected = np.sqrt(reference.mahalanobis(others.double().numpy()))
    np.testing.assert_allclose(gaussian(others).numpy(), expected, rtol=2e-4)


def test_two_halves_add_up() -> None:
    vectors = _vectors(40, 12)
    halves = [ShrunkGaussian(), ShrunkGaussian()]
    halves[0].collect(vectors[:13])
    halves[1].collect(vectors[13:])
    merged = copy.deepcopy(halves[0])
    for name, value in merged.merge_buffers([dict(half.named_buffers()) for half in halves]).items():
        setattr(merged, name, value)
    merged.fit()
    whole = _fitted(vectors)
    assert int(merged.count) == 40
    torch.testing.assert_close(merged.shrinkage, whole.shrinkage)
    torch.testing.assert_close(merged(vectors), whole(vectors), rtol=1e-5, atol=1e-5)


def test_memory_does_not_grow_with_the_scans_and_sums_are_dropped() -> None:
    sizes = []
    for count in (2, 300):
        gaussian = ShrunkGaussian()
        gaussian.collect(_vectors(count, 5))
        sizes.append(sum(buffer.numel() for buffer in gaussian.buffers()))
    assert sizes[0] == sizes[1] == 1 + 5 + 25 + 5 + 1 + 1
    gaussian.fit()
    assert sum(buffer.numel() for buffer in gaussian.buffers()) == 1 + 5 + 25 + 1


def test_a_second_fit_begins_anew() -> None:
    gaussian = _fitted(_vectors(50, 6))
    gaussian.collect(_vectors(20, 6, seed=4))
    gaussian.fit()
    assert int(gaussian.count) == 20
    torch.testing.assert_close(gaussian.whitening.abs(), _fitted(_vectors(20, 6, seed=4)).whitening.abs())


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_without_the_components_of_most_variance(share: float) -> None:
    """The covariance is that of Ledoit and Wolf; only its distance along the other components counts."""
    vectors = _vectors(60, 12).double().numpy()
    gaussian = _fitted(torch.from_numpy(vectors), share)
    kept_out = PCA(n_components=share, svd_solver="full").fit(vectors).n_components_
    assert gaussian.whitening.shape == (12 - kept_out, 12)
    variances, components = np.linalg.eigh(LedoitWolf().fit(vectors).covariance_)
    low = components[:, : 12 - kept_out]
    for other in _vectors(4, 12, seed=1).double():
        along = (other.numpy() - vectors.mean(0)) @ low
        expected = np.sqrt((along**2 / variances[: 12 - kept_out]).sum())
        assert float(gaussian(other[None])) == pytest.approx(expected, rel=1e-4)


def test_scans_that_say_nothing_about_variance() -> None:
    with pytest.raises(InputError, match="at least two normal scans .found 1."):
        _fitted(_vectors(1, 3))
    with pytest.raises(InputError, match=r"the normal scans have the same features .found 5 scans."):
        _fitted(_vectors(1, 3).expand(5, 3))
    with pytest.raises(RuntimeError, match="has not been fitted"):
        ShrunkGaussian()(_vectors(1, 3))
    with pytest.raises(ValueError, match="leave_out must lie in"):
        ShrunkGaussian(1.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _network(weights: str, *size: int, layers: tuple[int, ...] = (1, 3)) -> GaussianMahalanobis:
    network = GaussianMahalanobis(len(size), 1, "resnet10", weights, layers).train()
    for batch in _scans(*size).split(4):
        network.collect(batch)
    network.fit()
    return network.eval()


@pytest.mark.parametrize("size", [(32, 40), (17, 16, 20)])
@torch.no_grad()
def test_score_is_the_sum_of_the_layers_distances(weights: str, size: tuple[int, ...]) -> None:
    network, image = _network(weights, *size), _scans(*size, batch=2, seed=1)
    expected = np.zeros(2)
    for index, channels in ((0, 64), (1, 256)):
        features = [
            taps[index].flatten(2).mean(2).double().numpy() for taps in map(network.features, (_scans(*size), image))
        ]
        normal, others = features
        fitted = LedoitWolf().fit(normal)
        assert normal.shape == (6, channels)
        for case in range(2):
            expected[case] += mahalanobis(others[case], normal.mean(0), np.linalg.inv(fitted.covariance_))
    expected /= np.sqrt(64) + np.sqrt(256)
    anomaly_map = network(image)
    assert anomaly_map.shape == image.shape
    np.testing.assert_allclose(network.pool(anomaly_map).numpy(), expected, rtol=1e-3)
    assert float(anomaly_map.flatten(1).std(1).max()) == 0, "it does not say where"


@torch.no_grad()
def test_scripted_it_gives_the_same_score(weights: str) -> None:
    network, image = _network(weights, 32, 40), _scans(32, 40, batch=2, seed=1)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_state_fits_an_unfitted_network_strictly(weights: str, tmp_path: Path) -> None:
    network = _network(weights, 32, 40)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = GaussianMahalanobis(2, 1, "resnet10", "none", (1, 3)).eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert torch.equal(other(_scans(32, 40)), network(_scans(32, 40)))


def test_fewer_scans_than_dimensions_are_reported(weights: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _network(weights, 32, 40)
    (message,) = caplog.messages
    assert message.startswith(
        "6 normal scans are not more than the 256 features of the last layer, whose covariance is"
    )


def test_layers_that_no_backbone_has() -> None:
    with pytest.raises(InputError, match="the backbone has no such layers"):
        GaussianMahalanobis(backbone="resnet10", weights="none", layers=(1, 5))


def test_square_roots_of_pooled_features() -> None:
    torch.manual_seed(0)
    rooted = GaussianMahalanobis(2, 1, "resnet10", "none", layers=[2, 3], square_roots=True)
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for vectors, tap in zip(rooted.pooled(image), rooted.features(image), strict=True):
            torch.testing.assert_close(vectors, tap.mean((2, 3)).sqrt())

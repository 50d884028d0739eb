"""Classic detectors on scans: which vectors they judge, and what their maps say."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plain_resnet import varied_taps
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import KernelDensity
from torch import Tensor
from torch.nn import functional

from medad_plugins.methods.classic import DETECTORS, ClassicDetector

SIZES = [(32, 40), (17, 16, 20)]
# few enough for a few scans
FEW = {"neighbours": 3, "clusters": 1, "directions": 2, "trees": 10}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return str(path)


def _scans(*size: int, batch: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def _fitted(network: ClassicDetector, scans: Tensor) -> ClassicDetector:
    network.train()
    for batch in scans.split(3):
        network.collect(batch)
    network.fit()
    return network.eval()


def _deep(weights: str, dims: int, detector: str = "kde", **others: object) -> ClassicDetector:
    keys: dict[str, object] = {
        "detector": detector,
        "backbone": "resnet10",
        "layers": (1, 3),
        **FEW,
        **others,
    }
    return ClassicDetector(dims, 1, weights=weights, **keys)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_deep_score_is_that_of_the_mean_features(weights: str, size: tuple[int, ...]) -> None:
    network = _fitted(_deep(weights, len(size)), _scans(*size))
    image = _scans(*size, batch=3, seed=1)
    backbone = network.vectors.get_submodule("taps")

    def means(scans: Tensor) -> NDArray[np.float64]:
        found = backbone(scans)
        return torch.cat([found[i].flatten(2).mean(2) for i in (0, 1)], 1).double().numpy()

    head = network.detector.head
    normal = means(_scans(*size))
    assert normal.shape == (8, 64 + 256)
    width = float(head.bandwidth)  # type: ignore[arg-type]
    constant = -normal.shape[1] / 2 * np.log(2 * np.pi * width**2)
    expected = constant - KernelDensity(bandwidth=width, leaf_size=8).fit(normal).score_samples(means(image))
    anomaly_map = network(image)
    assert anomaly_map.shape == image.shape and anomaly_map.dtype == torch.float32
    np.testing.assert_allclose(network.pool(anomaly_map).numpy(), expected, rtol=1e-3, atol=1e-4)
    assert float(anomaly_map.flatten(1).std(1).max()) == 0, "it does not say where"


@pytest.mark.parametrize("size", [(8, 12), (6, 7, 5)])
@torch.no_grad()
def test_raw_score_is_that_of_the_intensities(size: tuple[int, ...]) -> None:
    scans, image = _scans(*size, batch=40), _scans(*size, batch=3, seed=1) * 2
    network = _fitted(ClassicDetector(len(size), 1, "isolation_forest", "raw", trees=20), scans)
    forest = IsolationForest(n_estimators=20, max_samples=40, random_state=0).fit(scans.flatten(1).double().numpy())
    expected = -forest.score_samples(image.flatten(1).double().numpy())
    np.testing.assert_allclose(network.pool(network(image)).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_score_of_every_location(weights: str, size: tuple[int, ...]) -> None:
    network = _fitted(_deep(weights, len(size), locations=True, sigma=1.0), _scans(*size))
    image = _scans(*size, batch=2, seed=1)
    taps = network.vectors.get_submodule("taps")(image)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    deeper = functional.interpolate(taps[1], taps[0].shape[2:], mode=mode)
    joined = torch.cat([taps[0], deeper], 1)
    by_place = torch.stack([network.detector(joined[i].flatten(1).t()).reshape(joined.shape[2:]) for i in range(2)])
    assert len(network.detector.vectors) == 8 * by_place[0].numel()
    anomaly_map = network(image)
    assert anomaly_map.shape == image.shape
    torch.testing.assert_close(network.pool(anomaly_map), by_place.flatten(1).amax(1), rtol=1e-4, atol=1e-5)
    assert float(anomaly_map.flatten(1).std(1).min()) > 0
    # where the change is, the map rises
    changed = image.clone()
    changed[(slice(None), 0) + (slice(0, 8),) * len(size)] = 3.0
    rise = (network(changed) - anomaly_map)[:, 0]
    corner = rise[(slice(None),) + (slice(0, 8),) * len(size)]
    assert float(corner.mean()) > float(rise.mean())


@torch.no_grad()
def test_no_more_vectors_are_kept_than_requested(weights: str) -> None:
    network = _fitted(_deep(weights, 2, locations=True, most_vectors=50), _scans(32, 40))
    assert len(network.detector.vectors) == 50
    assert int(network.detector.seen) == 8 * 8 * 10


@pytest.mark.parametrize("features", ["raw", "pca"])
@pytest.mark.parametrize("detector", sorted(DETECTORS))
@torch.no_grad()
def test_every_detector_on_every_vector(detector: str, features: str, tmp_path: Path) -> None:
    if detector == "mcd" and features == "raw":
        pytest.skip("64 values are too many for a robust covariance of 20 scans, which test_one_class_heads asks for")
    keys = {"detector": detector, "features": features, "components": 3, "scaling": "standard", **FEW}
    network = _fitted(ClassicDetector(2, 1, **keys), _scans(8, 8, batch=20))  # type: ignore[arg-type]
    image = _scans(8, 8, batch=4, seed=2)
    expected = network(image)
    torch.save(network.state_dict(), tmp_path / "state.pt")
    other = ClassicDetector(2, 1, **keys).eval()  # type: ignore[arg-type]
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True), strict=True)
    assert torch.equal(other(image), expected)
    assert torch.equal(torch.jit.script(network)(image), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(image), expected), "distances are differences and keep their digits"


@pytest.mark.costly
@pytest.mark.parametrize("detector", sorted(DETECTORS))
@pytest.mark.filterwarnings("ignore:.*dynamic_axes:UserWarning")
@pytest.mark.filterwarnings("ignore:.*dynamic_axes:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@torch.no_grad()
def test_every_detector_becomes_onnx(detector: str, tmp_path: Path) -> None:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed; it comes with medad-plugins[export]")
    runtime = pytest.importorskip("onnxruntime", reason="it comes with medad-plugins[export]")
    keys = {"components": 3, **FEW}
    network = _fitted(ClassicDetector(2, 1, detector, "pca", **keys), _scans(8, 8, batch=20))  # type: ignore[arg-type]
    image, path = _scans(8, 8, batch=3, seed=2), tmp_path / "model.onnx"
    batch = {"image": {0: "batch"}}
    torch.onnx.export(network, (image[:2],), path, input_names=["image"], output_names=["pred"], dynamic_axes=batch)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(["pred"], {"image": image.numpy()})
    np.testing.assert_allclose(found, network(image).numpy(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_locations_are_scripted_too(weights: str) -> None:
    for detector in sorted(DETECTORS):
        keys = {"locations": True, "most_vectors": 100, "reduced": 4 if detector == "mcd" else None, **FEW}
        network = _fitted(_deep(weights, 2, detector, **keys), _scans(32, 40))
        image = _scans(32, 40, batch=2, seed=1)
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)


def test_fewer_scans_than_values_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _fitted(ClassicDetector(2, 1, features="raw"), _scans(8, 8))
    (message,) = caplog.messages
    assert message.startswith("8 normal vectors are not more than their 64 values, so the covariance is shrunk by")


@torch.no_grad()
def test_deep_features_may_be_reduced(weights: str) -> None:
    scans, image = _scans(32, 40, batch=12), _scans(32, 40, batch=2, seed=1)
    network = _fitted(_deep(weights, 2, "knn", neighbours=1, reduced=5), scans)
    means = _deep(weights, 2).vectors
    normal, found = means(scans).double().numpy(), means(image).double().numpy()
    axes = np.linalg.svd(normal - normal.mean(0), full_matrices=False)[2][:5]
    apart = (found[:, None] - normal) @ axes.T
    expected = np.sqrt((apart**2).sum(2)).min(1)
    np.testing.assert_allclose(network.pool(network(image)).numpy(), expected, rtol=1e-3, atol=1e-5)


def test_what_there_is_not() -> None:
    for keys, sentence in (
        ({"detector": "svm"}, "detector must be one of"),
        ({"features": "shallow"}, "features must be one of"),
        ({"features": "raw", "locations": True}, "only deep features have locations"),
    ):
        with pytest.raises(ValueError, match=sentence):
            ClassicDetector(weights="none", **keys)

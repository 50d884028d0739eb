"""Which detectors a start tries, and with which keys."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medad_plugins.start import detectors
from medad_plugins.start.detectors import usual_detectors

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def _data(spatial_dims: int, edges: tuple[int, ...]) -> Any:
    return SimpleNamespace(spatial_dims=spatial_dims, in_channels=1, edges=edges)


@pytest.fixture
def has_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "weights_found", lambda weights, name: name in ("resnet18", "dinov2_vits14"))


@pytest.mark.usefixtures("has_weights")
def test_volumes_are_looked_at_in_enlarged_slices_by_fine_maps() -> None:
    found, notes = usual_detectors(_data(3, (91, 109, 91)), BUNDLES)
    by_name = {detector.name: detector for detector in found}
    assert list(by_name) == [
        "padim, slice by slice",
        "knn, slice by slice",
        "anomaly_dino, slice by slice",
        "ae, whole volumes",
    ]
    for name in ("padim", "anomaly_dino"):
        keys = by_name[f"{name}, slice by slice"].keys
        assert keys["image_size"] == [192, 192, 48] and keys["layers"] == [1, 2] and keys["reduction"] == 0.0005
        assert keys["backbone"] == "resnet18" and keys["slice_axis"] == 2
    assert by_name["padim, slice by slice"].keys["dimensions"] == 60  # efficientnet_lite0 has 64 there
    assert "layers" not in by_name["knn, slice by slice"].keys
    # no slice is shown to the transformer, so nothing is said of it
    assert notes == ["Backbones are resnet18 with ImageNet weights."]


@pytest.mark.usefixtures("has_weights")
def test_pictures_are_looked_at_in_their_size_with_the_transformer_too() -> None:
    found, notes = usual_detectors(_data(2, (300, 250)), BUNDLES)
    assert [detector.bundle for detector in found] == list(detectors.USUAL)
    by_name = {detector.name: detector for detector in found}
    assert by_name["anomaly_dino"].keys["backbone"] == "dinov2_vits14"
    assert by_name["anomaly_dino"].keys["image_size"] == by_name["padim"].keys["image_size"] == 224
    assert notes == ["Backbones are resnet18 with ImageNet weights, anomaly_dino's is DINOv2."]


def test_without_weights_it_is_said() -> None:
    found, (note,) = usual_detectors(_data(2, (64, 64)), BUNDLES, ["padim"], "none")
    assert found[0].keys["weights"] == "none" and "start from random ones" in note

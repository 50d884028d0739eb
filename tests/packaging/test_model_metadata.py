"""What a trained model takes and gives, in the words of a bundle's metadata."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from bundle_runs import BUNDLES_FOLDER

from medad_plugins.engines import ModelFile, save_model
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.packaging import describe_model

METADATA: dict[str, Any] = json.loads((BUNDLES_FOLDER / "edc" / "configs" / "metadata.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("dims", "size", "channels", "shape"),
    [(2, 256, 1, [256, 256]), (3, 96, 1, [96, 96, 96]), (2, [128, 64], 3, [128, 64])],
)
def test_tells_the_models_own_grid_and_channels(
    tmp_path: Path, dims: int, size: int | list[int], channels: int, shape: list[int]
) -> None:
    settings = {"network": {"spatial_dims": dims, "in_channels": channels}, "image_size": size}
    save_model(tmp_path / "model.pt", AnomalyNetwork(), "edc", settings)
    before = deepcopy(METADATA)
    described = describe_model(METADATA, ModelFile(tmp_path / "model.pt", "edc"))
    assert before == METADATA, "what was given stays as it is"
    image = described["network_data_format"]["inputs"]["image"]
    pred = described["network_data_format"]["outputs"]["pred"]
    assert image["spatial_shape"] == pred["spatial_shape"] == shape
    assert (image["num_channels"], len(image["channel_def"]), pred["num_channels"]) == (channels, channels, 1)
    for part in (image, pred, before["network_data_format"]["inputs"]["image"]):
        part.update(spatial_shape=0, num_channels=0, channel_def=0)
    assert described["network_data_format"]["inputs"]["image"] == before["network_data_format"]["inputs"]["image"]
    assert {**described, "network_data_format": 0} == {**before, "network_data_format": 0}

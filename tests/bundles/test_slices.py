"""Two-dimensional networks on volumes: of two bundles, and under ``slow`` of all that have the key ``slice_axis``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from bundle_runs import (
    BUNDLES,
    IMAGE_SIZE,
    Trained,
    copy_bundle,
    open_config,
    read_config,
    read_map,
    read_table,
    refusal,
    run_config,
    small_values,
    write_cohort,
)

from medad_plugins.networks.along_axes import AlongAxes
from medad_plugins.packaging.model_metadata import describe_model

pytestmark = [pytest.mark.usefixtures("process_settings"), pytest.mark.slow_but_for("edc", "padim")]
AXIS = 1
SIDES = [32, 48, 40]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("volumes") / "cohort", 3)


@pytest.fixture(scope="module", params=[bundle for bundle in BUNDLES if "slice_axis" in read_config(bundle, "train")])
def trained(
    request: pytest.FixtureRequest, volumes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp(request.param)
    root = copy_bundle(request.param, folder)
    values = small_values(request.param, spatial_dims=3, slice_axis=AXIS)
    yield Trained(request.param, 3, root, volumes, run_config(root, "train", dataset_dir=str(volumes), **values))
    shutil.rmtree(folder)


@torch.no_grad()
def test_the_map_of_a_volume_is_those_of_its_slices(trained: Trained, tmp_path: Path) -> None:
    reloaded = open_config(trained.root, "inference", dataset_dir=str(trained.data), device="cpu")
    trained.run("inference", tmp_path, batch_size=2, save=["map"])
    for row in read_table(tmp_path):
        volume = reloaded.preprocessing({"image": row["image"]})["image"].as_tensor()
        slices = volume.movedim(1 + AXIS, 0)  # each (C, *slice)
        expected = torch.stack([reloaded.network_def(one[None])[0] for one in slices], 1 + AXIS)
        score = float(reloaded.network_def.pool(expected[None]))
        # features of one slice and of many round differently, which its distance in a thousand dimensions enlarges
        rounding = 5e-4 if trained.bundle == "classic" else 1e-4
        assert float(row["anomaly_score"]) == pytest.approx(score, rel=rounding, abs=1e-6)
        written = torch.from_numpy(read_map(tmp_path, row["case_id"]).get_fdata(dtype="float32"))
        assert written.shape == volume.shape[1:]
        # the cohort's volumes have the network's size and lie in its orientation, so nothing is interpolated
        upright = expected[0].permute(2, 1, 0).flip([0, 2])  # coronal slices: inferior, anterior, left
        torch.testing.assert_close(written, upright, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_hosts_get_the_size_of_a_slice(trained: Trained) -> None:
    reloaded = open_config(trained.root, "inference", dataset_dir=str(trained.data), device="cpu")
    metadata = json.loads((trained.root / "configs" / "metadata.json").read_text("utf-8"))
    described = describe_model(metadata, reloaded.parser.get_parsed_content("model"))
    assert described["network_data_format"]["inputs"]["image"]["spatial_shape"] == [IMAGE_SIZE, IMAGE_SIZE]
    assert reloaded.parser.get_parsed_content("spatial_dims") == 3


def test_images_have_no_slices(trained: Trained) -> None:
    assert "slice_axis" in refusal(trained.root, "train", spatial_dims=2, slice_axis=0, device="cpu")


@pytest.fixture(scope="module", params=["padim", "ae"])
def trained_along_all(
    request: pytest.FixtureRequest, volumes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    """One that is fitted, a network for each axis, and one trained by gradient, one network for all slices."""
    folder = tmp_path_factory.mktemp(request.param)
    root = copy_bundle(request.param, folder)
    values = small_values(request.param, spatial_dims=3, slice_axis="all", image_size=SIDES)
    yield Trained(request.param, 3, root, volumes, run_config(root, "train", dataset_dir=str(volumes), **values))
    shutil.rmtree(folder)


@pytest.mark.slow_but_for("padim", "ae")
@torch.no_grad()
def test_along_all_axes_a_model_knows_how_it_sees_volumes(trained_along_all: Trained, tmp_path: Path) -> None:
    trained = trained_along_all
    reloaded = open_config(trained.root, "inference", dataset_dir=str(trained.data), device="cpu")
    assert isinstance(reloaded.network_def, AlongAxes) == (trained.bundle == "padim")
    trained.run("inference", tmp_path, batch_size=2, save=["map"])
    for row in read_table(tmp_path):
        volume = reloaded.preprocessing({"image": row["image"]})["image"].as_tensor()
        assert list(volume.shape[1:]) == SIDES
        expected = reloaded.inferer(volume[None], reloaded.network_def)
        assert expected.shape == (1, 1, *SIDES)
        score = float(reloaded.network_def.pool(expected))
        assert float(row["anomaly_score"]) == pytest.approx(score, rel=1e-4, abs=1e-6)
    metadata = json.loads((trained.root / "configs" / "metadata.json").read_text("utf-8"))
    described = describe_model(metadata, reloaded.parser.get_parsed_content("model"))
    longest = [max(SIDES)] * 2
    expected_shape = SIDES if trained.bundle == "padim" else longest
    assert described["network_data_format"]["inputs"]["image"]["spatial_shape"] == expected_shape

"""Scans in tiles: of two bundles, one of which knows places, and under ``slow`` of all with the key ``roi_size``."""

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

from medad_plugins.packaging.model_metadata import describe_model

pytestmark = [pytest.mark.usefixtures("process_settings"), pytest.mark.slow_but_for("ae", "padim")]
WHOLE = 48
# judge whole scans
UNCUT = {"ensemble", "musc"}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("pictures") / "cohort", 2)


@pytest.fixture(
    scope="module", params=[name for name in BUNDLES if "roi_size" in read_config(name, "train") and name not in UNCUT]
)
def trained(
    request: pytest.FixtureRequest, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp(request.param)
    root = copy_bundle(request.param, folder)
    values = small_values(request.param, image_size=WHOLE, roi_size=IMAGE_SIZE, overlap=0.5)
    yield Trained(request.param, 2, root, pictures, run_config(root, "train", dataset_dir=str(pictures), **values))
    shutil.rmtree(folder)


@torch.no_grad()
def test_the_map_of_a_scan_is_the_blended_map_of_its_tiles(trained: Trained, tmp_path: Path) -> None:
    reloaded = open_config(trained.root, "inference", dataset_dir=str(trained.data), device="cpu")
    network, scan = reloaded.network_def, reloaded.parser.get_parsed_content("scan")
    assert (scan.roi_size, scan.overlap, scan.whole_edges) == (IMAGE_SIZE, 0.5, [WHOLE, WHOLE])
    trained.run("inference", tmp_path, batch_size=2, save=["map"])
    for row in read_table(tmp_path):
        image = reloaded.preprocessing({"image": row["image"]})["image"].as_tensor()[None]
        if getattr(network, "cuts_tiles", False):
            expected = network(image)
        else:
            expected = scan.tiles.blend(image, lambda tiles, numbers: network(tiles))
        score = float(network.pool(expected))
        assert float(row["anomaly_score"]) == pytest.approx(score, rel=1e-3, abs=1e-6)
        assert read_map(tmp_path, row["case_id"]).shape[:2] == (IMAGE_SIZE, IMAGE_SIZE), "the scan's own grid"


def test_a_tile_as_large_as_the_scan_changes_nothing(trained: Trained, tmp_path: Path) -> None:
    if getattr(trained.workflow.network_def, "cuts_tiles", False):
        # its fit is of other tiles
        root = copy_bundle(trained.bundle, tmp_path / "whole")
        values = small_values(trained.bundle, image_size=IMAGE_SIZE)
        run_config(root, "train", dataset_dir=str(trained.data), **values)
        one = Trained(trained.bundle, 2, root, trained.data, trained.workflow)
    else:
        one = trained
    rows = []
    for name, tiles in (("scan", None), ("tile", IMAGE_SIZE)):
        one.run("inference", tmp_path / name, image_size=IMAGE_SIZE, roi_size=tiles, save=["map"])
        rows.append(read_table(tmp_path / name))
    for scan, tile in zip(*rows, strict=True):
        assert float(scan["anomaly_score"]) == pytest.approx(float(tile["anomaly_score"]), rel=1e-4)
        maps = [read_map(tmp_path / name, scan["case_id"]).get_fdata() for name in ("scan", "tile")]
        assert maps[0] == pytest.approx(maps[1], rel=1e-4, abs=1e-6)


def test_hosts_get_the_size_of_a_tile(trained: Trained) -> None:
    reloaded = open_config(trained.root, "inference", dataset_dir=str(trained.data), device="cpu")
    metadata = json.loads((trained.root / "configs" / "metadata.json").read_text("utf-8"))
    described = describe_model(metadata, reloaded.parser.get_parsed_content("model"))
    image = described["network_data_format"]["inputs"]["image"]
    cuts = getattr(reloaded.network_def, "cuts_tiles", False)
    assert image["spatial_shape"] == ([WHOLE, WHOLE] if cuts else [IMAGE_SIZE, IMAGE_SIZE])
    assert image["is_patch_data"] == (not cuts)


def test_says_what_is_no_tile(trained: Trained) -> None:
    for key, value in (("roi_size", 0), ("spacing", -1), ("overlap", 2)):
        assert key in refusal(trained.root, "train", dataset_dir=str(trained.data), **{key: value})

"""Bundles trained on synthetic anomalies, given scans in which none can be made; with worker processes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES, copy_bundle, read_config, refusal, run_config, small_values, write_cohort

pytestmark = pytest.mark.usefixtures("process_settings")

DATASET = "medad_plugins.synthesis.synthetic_dataset"
LEARNING = [
    b for b in BUNDLES if read_config(b, "train").get("train", {}).get("dataset", {}).get("_target_") == DATASET
]
# the same code stands behind all of them
EVERY = pytest.mark.parametrize(
    "bundle", [b if b == "fpi" else pytest.param(b, marks=pytest.mark.slow) for b in LEARNING]
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("synthetic") / "cohort", 2)


def _values(bundle: str, cohort: Path, **others: Any) -> dict[str, Any]:
    return small_values(bundle, dataset_dir=str(cohort), num_workers=2, **others)


def _recipe(side: float, overlap: float = 0.0) -> list[dict[str, Any]]:
    parts = "medad_plugins.synthesis"
    side_drawn = {"_target_": f"{parts}.Uniform", "low": side, "high": side}
    shape = {"_target_": f"{parts}.Cuboid", "side": side_drawn}
    recipe = {
        "_target_": f"{parts}.Recipe",
        "name": "by hand",
        "region": {"_target_": f"{parts}.PlacedRegion", "shape": shape, "overlap": overlap},
        "blender": {"_target_": f"{parts}.Mix"},
        "source": {"_target_": f"{parts}.ForeignHere"},
    }
    return [recipe]


@EVERY
def test_a_single_normal_scan_is_refused(bundle: str, cohort: Path, tmp_path: Path) -> None:
    with (cohort / "datalist.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with (cohort / "single.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row["image"] != "train0.png" and row["split"] != "train")
        writer.writerow(rows[0])
    assert rows[0]["split"] == "train"
    said = refusal(copy_bundle(bundle, tmp_path), "train", **_values(bundle, cohort, datalist="single.csv"))
    assert said == (
        "anomalies from other scans need other scans: source_pool (expected at least 2 normal cases, found 1); "
        "add normal cases, or choose a recipe that needs none."
    )


@EVERY
def test_where_nothing_can_be_made_the_training_does_not_begin(bundle: str, cohort: Path, tmp_path: Path) -> None:
    """The body does not fill the image, so no box of the image's size lies in it."""
    values = _values(bundle, cohort, recipes=_recipe(0.95, overlap=1.0), in_body=True)
    said = refusal(copy_bundle(bundle, tmp_path), "train", **values)
    assert said.startswith("no anomaly could be made in 40 tries in the mask of the body, which may be empty: by hand;")


@EVERY
def test_a_region_larger_than_the_image_is_cut_to_it(bundle: str, cohort: Path, tmp_path: Path) -> None:
    root = copy_bundle(bundle, tmp_path)
    run_config(root, "train", **_values(bundle, cohort, recipes=_recipe(3.0)))
    assert torch.load(root / "models" / "model.pt", weights_only=True)["bundle"] == bundle


def test_shares_that_are_none_are_refused(cohort: Path, tmp_path: Path) -> None:
    said = refusal(copy_bundle("fpi", tmp_path), "train", **_values("fpi", cohort, core=3))
    assert "an anomaly cannot be placed so: core, overlap, tries" in said and "found 3, 0, 50" in said

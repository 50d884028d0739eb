"""Bundles trained on synthetic anomalies, given scans in which none can be made; with worker processes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import (
    BUNDLES,
    cannot,
    copy_bundle,
    open_config,
    read_config,
    refusal,
    run_config,
    small_values,
    write_cohort,
)
from monai.utils import set_determinism

from medad_plugins.data.upright import UPRIGHT_SLICES

pytestmark = pytest.mark.usefixtures("process_settings")

DATASET = "medad_plugins.synthesis.synthetic_dataset"
LEARNING = [
    b for b in BUNDLES if read_config(b, "train").get("train", {}).get("dataset", {}).get("_target_") == DATASET
]
# ProxyAno's pasted pieces are nothing to find: it paints over them
TAUGHT = [bundle for bundle in LEARNING if bundle != "proxyano"]
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


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("bundle", TAUGHT)
def test_what_is_taught_lies_in_the_body_and_is_enough_to_learn_from(
    bundle: str, spatial_dims: int, tmp_path: Path
) -> None:
    """Anomalies in the air teach that air is normal, and of 1 % of a volume no loss learns: AUROC 0.5 whatever else."""
    only_if = {"slice_axis": 2} if spatial_dims == 3 and cannot(bundle, "spatial_dims_3") else {}
    edge = 64 if spatial_dims == 2 else 32
    values = small_values(bundle, spatial_dims=spatial_dims, anomalous=1.0, **only_if) | {"image_size": edge}
    values = {key: value for key, value in values.items() if key in read_config(bundle, "train")}
    workflow = open_config(copy_bundle(bundle, tmp_path), "train", **values)
    try:
        dataset = workflow.parser.get_parsed_content("train::dataset")
        dataset.transform.set_random_state(0)
        cases = [dataset[index % len(dataset)] for index in range(40)]
    finally:
        set_determinism(None)
    changed = [case for case in cases if case["is_anomalous"]]
    assert len(changed) >= 36
    assert all(not (case["mask"] * (1 - torch.as_tensor(case["body"]))).any() for case in changed)
    shares = sorted(float(case["mask"].mean() / case["body"].mean()) for case in changed)
    assert sum(shares) / len(shares) > 0.04, "of the body"
    assert shares[len(shares) // 10] > 0.002, "a tenth may be small"
    recipes = [json.loads(case["synthesis"])["recipe"] for case in changed]
    if not all(recipe.startswith("disyre") for recipe in recipes):  # whose every border fades
        smooth = sum(recipe in ("smooth", "intensity") for recipe in recipes)
        assert smooth >= 0.2 * len(changed), "whole regions without an edge are among them"


def test_left_and_right_change_places(tmp_path: Path) -> None:
    """Of images, volumes and volumes that are seen by slices: not up and down, which no patient does."""
    for spatial_dims, slice_axis, expected in ((2, None, 1), (3, None, 0), (3, 0, 0), (3, 1, 2), (3, 2, 1)):
        values = small_values("many_tasks", spatial_dims=spatial_dims, slice_axis=slice_axis)
        workflow = open_config(copy_bundle("many_tasks", tmp_path / f"{spatial_dims}{slice_axis}"), "train", **values)
        try:
            assert workflow.parser.get_parsed_content("sideways") == expected
            volume = "RAS" if slice_axis is None else UPRIGHT_SLICES[slice_axis]
            codes = volume if spatial_dims == 3 else "PL"
            assert codes[expected] in "RL"
        finally:
            set_determinism(None)


@pytest.mark.parametrize("bundle", ["cutpaste", "anatpaste"])
def test_a_pretrained_encoder_learns_slowly_and_late(bundle: str, tmp_path: Path) -> None:
    """At the head's rate it is worse after 20 iterations than it came."""
    root = copy_bundle(bundle, tmp_path)
    for weights, rate, frozen in (("none", 0.03, 0), ("some.pth", 0.003, 5)):
        workflow = open_config(root, "train", **small_values(bundle) | {"weights": weights, "max_iterations": 20})
        try:
            assert workflow.parser.get_parsed_content("encoder_learning_rate") == pytest.approx(rate)
            assert workflow.parser.get_parsed_content("frozen_iterations") == frozen
            if weights == "none":
                slow, fast = workflow.parser.get_parsed_content("optimizer").param_groups
                assert (slow["lr"], fast["lr"]) == (pytest.approx(rate), 0.03)
        finally:
            set_determinism(None)

"""Weights chosen on held-out normal scans, by the one key ``select_by`` of every bundle with an optimiser."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from bundle_runs import BUNDLES, copy_bundle, open_config, read_config, refusal, run_config, small_values

pytestmark = pytest.mark.usefixtures("process_settings")
TRAINED = [b for b in BUNDLES if "max_iterations" in read_config(b, "train")["train"]["dataloader"]]
FEW = ("edc", "stfpm")


@pytest.mark.parametrize("bundle", TRAINED)
def test_every_bundle_that_is_trained_in_iterations_has_the_key(bundle: str) -> None:
    keys = read_config(bundle, "train")
    assert keys.get("select_by") in ("last", "normal", "synthetic")
    assert keys["setup"]["select_by"] == "@select_by"


@pytest.mark.parametrize(
    "bundle",
    [
        b if b in FEW else pytest.param(b, marks=pytest.mark.slow)
        for b in TRAINED
        if "select_by" in read_config(b, "train")
    ],
)
def test_weights_are_chosen_by_synthetic_anomalies(
    bundle: str, cohorts: dict[int, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = copy_bundle(bundle, tmp_path)
    values = small_values(bundle, dataset_dir=str(cohorts[2]), select_by="synthetic")
    with caplog.at_level(logging.INFO):
        workflow = run_config(root, "train", **values)
    kept = [record.getMessage() for record in caplog.records if record.getMessage().startswith("kept the weights")]
    assert len(kept) == 1 and "synthetic anomalies of held-out kinds are found best" in kept[0]
    cohort = workflow.parser.get_parsed_content("cohort")
    ids = [{case["case_id"] for case in cases} for cases in (cohort.train, cohort.selection, cohort.validation)]
    assert all(ids) and len(set.union(*ids)) == sum(map(len, ids)), "no case has two roles"
    assert not list((root / "models").glob("*.best"))
    last = open_config(root, "train", dataset_dir=str(cohorts[2]), **small_values(bundle, select_by="last"))
    assert not last.parser.get_parsed_content("cohort").selection


def test_an_unknown_choice_is_refused(cohorts: dict[int, Path], tmp_path: Path) -> None:
    values = small_values("edc", dataset_dir=str(cohorts[2]), select_by="luck")
    assert "select_by (expected last, normal or synthetic, found luck)" in refusal(
        copy_bundle("edc", tmp_path), "train", **values
    )

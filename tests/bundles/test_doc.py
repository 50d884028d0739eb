"""What stands in DOC's train.yaml and in no other: a folder of labelled pictures of other things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bundle_runs import copy_bundle, open_config, parts_that_learn, small_values, write_cohort
from PIL import Image

pytestmark = pytest.mark.usefixtures("process_settings")


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_pictures_of_three_classes_are_told_apart(tmp_path: Path, spatial_dims: int) -> None:
    """Also beside slices of volumes, which are of other sizes."""
    cohort, pictures = str(write_cohort(tmp_path / "cohort", spatial_dims)), tmp_path / "pictures"
    for kind in ("hand", "chest", "breast"):
        (pictures / kind).mkdir(parents=True)
        Image.fromarray(np.eye(24, dtype=np.uint8) * 99).save(pictures / kind / "one.png")
    slices = {"spatial_dims": 3, "slice_axis": 2} if spatial_dims == 3 else {}
    values = {**small_values("doc", datalist="fitting.csv", dataset_dir=cohort), **slices}
    workflow = open_config(copy_bundle("doc", tmp_path), "train", **values, reference_dir=str(pictures))
    network = workflow.network_def
    assert parts_that_learn(workflow) == {"encoder", "classifier"} and network.classifier.out_features == 3

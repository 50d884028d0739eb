"""What stands in DOC's train.yaml and in no other: a folder of labelled pictures of other things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import copy_bundle, open_config, small_values, write_cohort
from monai.utils import set_determinism
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
    before = {name: value.clone() for name, value in network.named_parameters()}
    try:
        workflow.run()
    finally:
        set_determinism(None)
    moved = {name.split(".")[0] for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {"encoder", "classifier"} and network.classifier.out_features == 3

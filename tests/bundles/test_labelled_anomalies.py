"""What MONAI Label's training writes, a list of scans with and without something marked, teaches deep_sad."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import pytest
import torch
from bundle_runs import copy_bundle, run_config, small_values, write_cohort

from medad_plugins.engines import ModelFile


@pytest.mark.parametrize("backbone", ["none", "resnet10"])
def test_marked_scans_are_learnt_from(backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cohort = write_cohort(tmp_path / "scans", 2)
    with (cohort / "datalist.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (cohort / "labels.csv").write_text("\n".join(["image,label", *(f"{row['image']},{row['label']}" for row in rows)]))
    root = copy_bundle("deep_sad", tmp_path)
    values = small_values("deep_sad", dataset_dir=str(cohort), datalist="labels.csv", backbone=backbone, batch_size=4)

    def trained(**others: object) -> dict[str, torch.Tensor]:
        run_config(root, "train", **{**values, "max_iterations": 4, "pretrain_iterations": 0, **others})
        found: dict[str, torch.Tensor] = ModelFile(root / "models" / "model.pt", "deep_sad").content["model"]
        return found

    with caplog.at_level(logging.INFO):
        with_labels = trained()
    assert "2 labelled anomalies to train on" in caplog.text and "Left out" not in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        without = trained(labelled=0)
    assert "labelled anomalies to train on" not in caplog.text and "2 in train" in caplog.text
    changed = [name for name in with_labels if not torch.equal(with_labels[name], without[name])]
    assert any(name.startswith("bottleneck") for name in changed)
    assert not any(name.startswith("encoder.taps") for name in changed), "a backbone stays as it is"
    assert torch.equal(with_labels["centre"], without["centre"]), "the centre is of normal scans alone"

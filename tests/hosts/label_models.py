"""Bundles trained for MONAI Label's tests, and what ``monai.bundle run`` makes of a scan with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundle_runs import copy_bundle, read_nifti, read_table, run_config, small_values, write_cohort
from PIL import Image


@dataclass
class ServedBundle:
    """A small trained bundle in a folder of its own, as it is given to the server."""

    root: Path
    cohort: Path
    spatial_dims: int

    @classmethod
    def train(cls, bundle: str, spatial_dims: int, folder: Path) -> ServedBundle:
        """Train a copy of a bundle for two iterations."""
        root = copy_bundle(bundle, folder)
        cohort = write_cohort(folder / f"cohort_{spatial_dims}d", spatial_dims)
        # PaDiM in the paper's form: of so small a network on so coarse a grid, masks would be of one value
        paper = {"finest_stage": 1, "unit_length": False, "square_roots": False} if bundle == "padim" else {}
        values = paper | small_values(
            bundle, spatial_dims=spatial_dims, dataset_dir=str(cohort), datalist="fitting.csv"
        )
        run_config(root, "train", **values)
        _lower_references(root / "models" / "model.pt")
        return cls(root, cohort, spatial_dims)

    def run(self, scan: Path, output: Path, alpha: float) -> BundleResult:
        """Apply it to a scan with ``monai.bundle run``."""
        values: dict[str, Any] = {"device": "cpu", "save": ["map", "mask"], "alpha": alpha}
        run_config(self.root, "inference", dataset_dir=str(scan), output_dir=str(output), **values)
        (row,) = read_table(output)
        return BundleResult(output, row)


def _lower_references(model: Path) -> None:
    """Let every scan be flagged and marked: of two iterations and four references one cannot tell."""
    content = torch.load(model, weights_only=True)
    for name in ("reference_scores", "pixel_quantiles"):
        content["model"][f"calibration.{name}"] *= 0.2
    torch.save(content, model)


@dataclass
class BundleResult:
    """The files and the table's row of one scan."""

    output: Path
    row: Mapping[str, str]

    @property
    def mask(self) -> Any:
        """The mask: a NIfTI image, or the pixels of a picture (0 and 255)."""
        (path,) = (self.output / "masks").iterdir()
        return np.asarray(Image.open(path)) if path.suffix == ".png" else read_nifti(path)

    @property
    def map(self) -> Any:
        """The map's values."""
        (path,) = (self.output / "maps").iterdir()
        return read_nifti(path).get_fdata()

    def agrees_with(self, answer: Mapping[str, Any]) -> bool:
        """Whether score, p-value and decision of an answer are those of the table."""
        numbers = all(abs(float(self.row[name]) - answer[name]) < 1e-4 for name in ("anomaly_score", "p_value"))
        return numbers and self.row["is_anomalous"] == str(answer["is_anomalous"])

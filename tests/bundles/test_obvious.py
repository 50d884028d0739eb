"""Every bundle finds the obvious after seconds: the cheap check of what made bundles weak.

A score that is inverted, norms that drift, a share of synthetic anomalies too small to learn from or an average that
holds the start show here at once. Where the usual settings are too short for a method, its metadata names others under
``medad.obvious``; what needs minutes declares that it cannot, and is asked by `test_learning`, which is slow. Settings
here reach the bar with a margin, whatever the seed and the processor.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import BUNDLES, auroc_of, cannot, copy_bundle, declared, no_pictures, open_config, read_config
from monai.utils import set_determinism
from numpy.typing import NDArray
from PIL import Image

from medad_plugins.data.sample_cohort import generate_case

pytestmark = pytest.mark.usefixtures("process_settings")

EDGE = 64
QUICK = {"image_size": 32, "max_iterations": 60, "batch_size": 8, "weights": "none", "device": "cpu"}
# of a frozen network's features, which are coarse
FEATURES = {"image_size": 64, "max_iterations": 40, "backbone": "resnet10"}
REACHED = 0.8


def _with_blot(head: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """A head with a bright or a dark disk, a quarter as wide as the image."""
    random = np.random.default_rng(number)
    middle, radius = EDGE * (0.5 + random.uniform(-0.14, 0.14, 2)), EDGE * random.uniform(0.12, 0.16)
    rows, columns = np.mgrid[:EDGE, :EDGE]
    inside = np.clip((radius - np.hypot(rows - middle[0], columns - middle[1])) / 1.5 + 0.5, 0, 1)
    return np.asarray(head + inside * (0.45 if number % 2 else -0.35), np.float32)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("obvious")
    rows: list[tuple[Any, ...]] = [("image", "label", "split")]
    for split, normal, abnormal in (("train", 24, 0), ("val", 4, 0), ("test", 16, 16)):
        for number in range(normal + abnormal):
            head = generate_case(2, EDGE, (5, len(rows)))[0]
            values = head if number < normal else _with_blot(head, number)
            name = f"{split}{number}.png"
            Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)).save(folder / name)
            rows.append((name, int(number >= normal), split))
    with (folder / "datalist.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder


def _values(bundle: str, cohort: Path) -> dict[str, Any]:
    keys = read_config(bundle, "train")
    known = {**QUICK, **(FEATURES if "backbone" in keys else {}), "precision": "float32"}
    found = {**{key: value for key, value in known.items() if key in keys}, "dataset_dir": str(cohort)}
    own = {key: value for key, value in declared(bundle).get("learning", {}).items() if key not in known}
    return {**found, **own, **declared(bundle).get("obvious", {})}


ABLE = [name for name in BUNDLES if not cannot(name, "spatial_dims_2") and not cannot(name, "obvious")]


@pytest.mark.costly
@pytest.mark.parametrize("bundle", ABLE)
def test_a_blot_is_found(bundle: str, cohort: Path, tmp_path: Path) -> None:
    values = {**_values(bundle, cohort), **no_pictures(bundle)}
    workflow = open_config(copy_bundle(bundle, tmp_path), "train", **values)
    try:
        workflow.run()
        assert auroc_of(workflow, 32) >= REACHED
    finally:
        set_determinism(None)

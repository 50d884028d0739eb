"""Running any bundle quickly: a copy of its folder, a small cohort, and values that make every method small."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism
from numpy.typing import NDArray
from PIL import Image
from scan_samples import SECRETS, dicom_image, write_series
from sklearn.metrics import roc_auc_score

from medad_plugins.data import FaultTolerantLoader
from medad_plugins.data.sample_cohort import LESIONS, generate_case
from medad_plugins.engines import score_cases
from medad_plugins.errors import find_input_error

BUNDLES_FOLDER = Path(__file__).resolve().parents[2] / "bundles"
BUNDLES = sorted(folder.name for folder in BUNDLES_FOLDER.iterdir() if folder.is_dir() and folder.name[0] not in "._")
IMAGE_SIZE = 32
SMALL = {"image_size": IMAGE_SIZE, "batch_size": 2, "max_iterations": 2, "weights": "none", "device": "cpu"}
SMALL["precision"] = "float32"  # the default would depend on the machine
# keys of single methods; a bundle that needs other values for a small network gives them in its metadata
SMALL_METHOD = {"backbone": "resnet10", "dimensions": 8}
# what a bundle may declare that it cannot do, as {"medad": {"cannot": [...]}} in its metadata
ABILITIES = {
    "spatial_dims_2": "work on images",
    "spatial_dims_3": "work on volumes",
    "ckpt_export": "become TorchScript",
    "onnx_export": "become ONNX",
    "torch_export": "be exported by torch.export",
    "localization": "say where: its map is constant",
    "seed": "differ by seed: nothing in it is random",
    "obvious": "find a blot in a head after 16 seconds of training",
    "short_training": "find the sample cohort's lesions after a short training",
}


@cache
def read_config(bundle: str, name: str) -> dict[str, Any]:
    """A configuration as it is written; nobody changes what they get."""
    content: dict[str, Any] = ConfigParser.load_config_file(BUNDLES_FOLDER / bundle / "configs" / f"{name}.yaml")
    return content


@cache
def declared(bundle: str) -> dict[str, Any]:
    """The entry ``medad`` of a bundle's metadata: ``cannot``, a list, and ``small``, keys for a small network."""
    metadata: dict[str, Any] = json.loads((BUNDLES_FOLDER / bundle / "configs" / "metadata.json").read_text("utf-8"))
    content: dict[str, Any] = metadata.get("medad", {})
    return content


def cannot(bundle: str, ability: str) -> bool:
    """Whether the bundle declares that it cannot do something."""
    return ability in declared(bundle).get("cannot", ())


@contextmanager
def only_if_able(bundle: str, ability: str) -> Iterator[None]:
    """What follows must succeed, or must fail where the bundle declares so."""
    if not cannot(bundle, ability):
        yield
        return
    with pytest.raises(Exception):  # noqa: B017 - in which way is the method's own affair
        yield


def small_values(bundle: str, **others: Any) -> dict[str, Any]:
    """Overrides of train.yaml that make a training quick."""
    keys = read_config(bundle, "train")
    return {
        **SMALL,
        **{k: v for k, v in SMALL_METHOD.items() if k in keys},
        **declared(bundle).get("small", {}),
        **others,
    }


def copy_bundle(bundle: str, parent: Path) -> Path:
    """A copy of the bundle's folder as its user gets it, without trained models and outputs."""
    ignore = shutil.ignore_patterns("models", "output", "eval")
    return Path(shutil.copytree(BUNDLES_FOLDER / bundle, parent / bundle, ignore=ignore))


def open_config(root: Path, name: str, **overrides: Any) -> ConfigWorkflow:
    """A bundle's configuration as an initialised workflow."""
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / f"{name}.yaml"),
        workflow_type="train" if name == "train" else "infer",
        logging_file=False,
        **overrides,
    )
    workflow.initialize()
    return workflow


def run_config(root: Path, name: str, **overrides: Any) -> ConfigWorkflow:
    """Run a bundle's configuration in this process and leave the process as it was."""
    search_path = list(sys.path)
    try:
        workflow = open_config(root, name, **overrides)
        workflow.run()
        workflow.finalize()
    finally:
        sys.path[:] = search_path
        set_determinism(None)
    return workflow


def no_pictures(bundle: str) -> dict[str, Any]:
    """The key that leaves out the pictures of test cases after a training."""
    handlers = read_config(bundle, "train")["train"]["handlers"]
    assert handlers[-1]["_target_"].endswith("StandardHandlers")
    return {f"train::handlers::{len(handlers) - 1}::test_pictures": 0}


def auroc_of(workflow: ConfigWorkflow, count: int) -> float:
    """AUROC of the network as it stands, on the test set of its data, which has so many cases."""
    setup = workflow.parser.get_parsed_content("setup")
    loader = FaultTolerantLoader(setup.cohort.test, setup.preprocessing, batch_size=20)
    scored = list(score_cases(workflow.network_def, loader, setup.inferer))
    assert len(scored) == count
    return float(roc_auc_score([case.label for case in scored], [case.score for case in scored]))


def parts_that_learn(workflow: ConfigWorkflow) -> set[str]:
    """Runs a training, and the names of the network's parts whose parameters it changed."""
    network = workflow.network_def
    before = {name: value.clone() for name, value in network.named_parameters()}
    try:
        workflow.run()
    finally:
        set_determinism(None)
    return {name.split(".")[0] for name, value in network.named_parameters() if not torch.equal(value, before[name])}


def refusal(root: Path, name: str, **overrides: Any) -> str:
    """The sentence with which a configuration refuses to run."""
    with pytest.raises(Exception) as raised:
        run_config(root, name, **overrides)
    found = find_input_error(raised.value)
    assert found is not None, f"no InputError but {raised.value!r}"
    return str(found)


def _write(path: Path, values: NDArray[np.float32], affine: NDArray | None = None) -> None:
    pixels = np.rint(values * 255).astype(np.uint8)
    if path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        nib.save(nib.Nifti1Image(pixels, np.diag([5.0, 5.0, 5.0, 1.0]) if affine is None else affine), path)


def write_cohort(folder: Path, spatial_dims: int) -> Path:
    """Four normal heads to train on, four held out, two normal and two abnormal to test; also a list without tests."""
    folder.mkdir(parents=True)
    suffix = ".png" if spatial_dims == 2 else ".nii.gz"
    rows: list[dict[str, Any]] = []
    for split, normal, abnormal in (("train", 4, 0), ("val", 4, 0), ("test", 2, 2)):
        for index in range(normal + abnormal):
            lesion = list(LESIONS)[index - normal] if index >= normal else None
            image, mask = generate_case(spatial_dims, IMAGE_SIZE, (7, len(rows)), lesion)
            name = f"{split}{index}{suffix}"
            _write(folder / name, image)
            if lesion:
                _write(folder / f"mask_{name}", mask.astype(np.float32))
            listed = {
                "image": name,
                "label": int(bool(lesion)),
                "mask": f"mask_{name}" if lesion else "",
                "split": split,
            }
            rows.append(listed)
    for name, listed_rows in (("datalist.csv", rows), ("fitting.csv", [row for row in rows if row["split"] != "test"])):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(listed_rows)
    return folder


def write_scans(folder: Path, spatial_dims: int) -> Path:
    """A folder as a hospital has it: formats, shapes and geometries of all kinds, and one damaged file."""
    folder.mkdir(parents=True)
    head = generate_case(spatial_dims, 40, 11)[0]
    turned = np.array([[0.0, -2.0, 0.0, 30.0], [1.5, 0.0, 0.3, -20.0], [0.0, 0.3, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
    if spatial_dims == 2:
        _write(folder / "picture.png", head[:, :34])
        straight = np.diag([0.8, 1.2, 1.0, 1.0])
        _write(folder / "slice.nii.gz", head[:36], straight)
        pixels = np.rint(head[:30] * 3000).astype(np.uint16)
        dicom_image(pixels, PixelSpacing=[1.5, 2.0]).save_as(folder / "exam.dcm", enforce_file_format=True)
    else:
        _write(folder / "volume.nii.gz", head[:36, :32, :28], turned)
        _write(folder / "plain.nii", head[:24, :24, :24])
        write_series(folder / "series", np.rint(head[8:32, :36, :30] * 3000).astype(np.uint16))
    (folder / "damaged.png" if spatial_dims == 2 else folder / "damaged.nii.gz").write_bytes(b"no image at all")
    return folder


def read_table(output: Path) -> list[dict[str, str]]:
    """The rows of results.csv."""
    with (output / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_nifti(path: str | Path) -> Any:
    """A NIfTI image."""
    return nib.load(path)


def read_map(output: Path, case_id: str) -> Any:
    """The written map of a case, as a NIfTI image."""
    return read_nifti(output / "maps" / f"{case_id}.nii.gz")


def leaks(folder: Path) -> list[str]:
    """Values of the patient's header that stand in the names or bytes of what was written."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    text = b"\n".join(
        [*(str(path.relative_to(folder)).encode() for path in files), *(path.read_bytes() for path in files)]
    )
    return [value for value in SECRETS.values() if value.encode() in text]


@dataclass
class Trained:
    """A bundle trained for two iterations in a copy of its folder."""

    bundle: str
    spatial_dims: int
    root: Path
    data: Path
    workflow: ConfigWorkflow

    @property
    def network(self) -> Any:
        """The network as the training left it, in eval mode."""
        return self.workflow.network_def.eval()

    @property
    def model(self) -> Path:
        """The model file."""
        return self.root / "models" / "model.pt"

    def run(self, name: str, output: Path, **overrides: Any) -> ConfigWorkflow:
        """Run inference.yaml or evaluate.yaml: the same command for every bundle, but for its path."""
        arguments = {"dataset_dir": str(self.data), "output_dir": str(output), "device": "cpu", **overrides}
        return run_config(self.root, name, **arguments)

"""Training from MONAI Label: on the scans that a reader left empty, and the server answers with the new model."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import SMALL_METHOD, read_nifti
from PIL import Image

from medad_plugins.data.class_folders import scan_stem

pytest.importorskip("monailabel", reason="needs MONAI Label: see docs/monai_label.md")

from label_models import ServedBundle
from label_server import LabelServer, import_host, label_server

pytestmark = pytest.mark.label
ALPHA = 0.6
# Empty: as the bundle has it, or as the present model was trained; viewers send such numbers as text.
WISHES: dict[str, Any] = {"weights": "none", "max_iterations": "3", "batch_size": 2, "image_size": "", **SMALL_METHOD}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ServedBundle:
    return ServedBundle.train("padim", 3, tmp_path_factory.mktemp("label"))


@pytest.fixture(scope="module")
def server(bundle: ServedBundle) -> Iterator[LabelServer]:
    folder = bundle.root.parent
    with label_server(folder, "--studies", str(folder / "studies"), "--conf", "models", str(bundle.root)) as running:
        yield running


def _model(bundle: ServedBundle) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(bundle.root / "models" / "model.pt", weights_only=True)
    return content


def _empty_label(scan: Path, path: Path) -> Path:
    image = read_nifti(scan)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, dtype=np.uint8), image.affine), path)
    return path


def test_too_few_normal_scans_are_refused_in_a_sentence(server: LabelServer, bundle: ServedBundle) -> None:
    before = (bundle.root / "models" / "model.pt").read_bytes()
    status = server.train("padim", **WISHES)
    assert status["status"] == "ERROR"
    assert "there are too few normal scans to train on" in status["details"][-1]
    assert (bundle.root / "models" / "model.pt").read_bytes() == before


def test_training_takes_the_empty_labels_and_the_server_the_new_model(
    server: LabelServer, bundle: ServedBundle, tmp_path: Path
) -> None:
    normal = [*sorted(bundle.cohort.glob("train*.nii.gz")), *sorted(bundle.cohort.glob("val*.nii.gz"))]
    for scan in normal:
        server.add_scan(scan_stem(scan.name), scan, _empty_label(scan, tmp_path / scan.name))
    lesion = bundle.cohort / "test3.nii.gz"
    server.add_scan(scan_stem(lesion.name), lesion, bundle.cohort / "mask_test3.nii.gz")
    old = server.infer("padim", lesion, alpha=ALPHA)

    status = server.train("padim", **WISHES)
    assert status["status"] == "DONE", status["details"]
    listed = list(csv.DictReader((bundle.root / "output" / "monai_label" / "datalist.csv").open()))
    assert sorted(os.path.basename(row["image"]) for row in listed if row["label"] == "0") == [s.name for s in normal]
    assert [os.path.basename(row["image"]) for row in listed if row["label"] == "1"] == [lesion.name]
    model = _model(bundle)
    # a share of the normal scans calibrates, none of them trained on
    assert len(model["model"]["calibration.reference_scores"]) == 1
    assert model["settings"]["image_size"] == 32, "as the model before"
    assert model["settings"]["network"]["spatial_dims"] == 3, "as the model before, not as train.yaml has it"

    new = server.infer("padim", lesion, alpha=ALPHA)
    assert new.params["anomaly_score"] != old.params["anomaly_score"]
    assert bundle.run(lesion, tmp_path / "expected", ALPHA).agrees_with(new.params)
    assert (new.params["calibrated_on"], new.params["can_flag"]) == (1, True)
    (copy,) = (bundle.root / "models").glob("model_until_*.pt")
    as_before = server.infer("padim", lesion, alpha=ALPHA, model_filename=copy.name)
    assert as_before.params["anomaly_score"] == old.params["anomaly_score"]


def test_a_model_that_can_flag_nothing_replaces_none_that_can(tmp_path: Path) -> None:
    import_host()
    from medad_label.train_task import replace_model

    from medad_plugins.engines import ModelFile, save_model
    from medad_plugins.errors import InputError
    from medad_plugins.networks import AnomalyNetwork

    def model(path: Path, cases: int) -> Path:
        network = AnomalyNetwork()
        network.calibration.fit(torch.arange(float(cases)), torch.rand(10))
        path.parent.mkdir(exist_ok=True, parents=True)
        save_model(path, network, "padim", {"network": {}})
        return path

    def calibrated_on(path: Path) -> int:
        scores: torch.Tensor = ModelFile(path, "padim").content["model"]["calibration.reference_scores"]
        return len(scores)

    present = model(tmp_path / "models" / "model.pt", 24)
    with pytest.raises(InputError, match="at least 19 held-out normal scans .* found 3; the present one has 24"):
        replace_model(present, model(tmp_path / "new.pt", 3), "padim", 0.05)
    assert calibrated_on(present) == 24
    assert calibrated_on(tmp_path / "new.pt") == 3, "nothing that was computed is lost"
    replace_model(present, tmp_path / "new.pt", "padim", 0.05, anyway=True)
    replace_model(present, model(tmp_path / "new.pt", 30), "padim", 0.05)
    assert calibrated_on(present) == 30
    copies = sorted(path for path in present.parent.iterdir() if path != present)
    assert [calibrated_on(path) for path in copies] == [24, 3]
    assert not (tmp_path / "new.pt").exists()


def test_training_never_runs_values_as_code(server: LabelServer, bundle: ServedBundle, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    status = server.train("padim", **{**WISHES, "weights": f"$open('{trace}', 'w')"})
    assert status["status"] == "ERROR"
    assert "a value of the request cannot be used: weights" in status["details"][-1]
    assert not trace.exists()


def test_first_training_needs_no_model(tmp_path: Path) -> None:
    import_host()
    from medad_label.train_task import NormalTrainTask

    served = ServedBundle.train("padim", 2, tmp_path)
    (served.root / "models" / "model.pt").unlink()
    scans = sorted(served.cohort.glob("train*.png"))
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(empty)

    class Datastore:
        def datalist(self) -> list[dict[str, str]]:
            return [{"image": str(scan), "label": str(empty)} for scan in scans]

    task = NormalTrainTask(str(served.root), {})
    task({"device": "cpu", **WISHES, "spatial_dims": 2, "image_size": "32", "bundle_root": "elsewhere"}, Datastore())
    assert _model(served)["settings"]["image_size"] == 32


def test_marked_scans_teach_a_bundle_that_learns_from_them(tmp_path: Path) -> None:
    """The same list says which scans are abnormal, and deep_sad takes them."""
    import_host()
    from medad_label.train_task import NormalTrainTask

    served = ServedBundle.train("deep_sad", 2, tmp_path)
    marks = tmp_path / "marks.png"
    Image.fromarray(np.eye(32, dtype=np.uint8)).save(marks)
    empty = tmp_path / "empty.png"
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(empty)
    normal, marked = sorted(served.cohort.glob("train*.png")), sorted(served.cohort.glob("test*.png"))

    class Datastore:
        def datalist(self) -> list[dict[str, str]]:
            pairs = [(scan, empty) for scan in normal] + [(scan, marks) for scan in marked]
            return [{"image": str(scan), "label": str(label)} for scan, label in pairs]

    task = NormalTrainTask(str(served.root), {})
    request = {"device": "cpu", **WISHES, "spatial_dims": 2, "image_size": "32"}
    task(request, Datastore())
    with_labels = _model(served)["model"]["bottleneck.0.weight"]
    task({**request, "labelled": "0"}, Datastore())
    assert not torch.equal(with_labels, _model(served)["model"]["bottleneck.0.weight"])

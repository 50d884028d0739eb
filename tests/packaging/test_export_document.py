"""What docs/export.md says is run as it stands there, for a bundle of each reduction."""

from __future__ import annotations

import ast
import re
import shlex
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_runs import copy_bundle
from monai.bundle.scripts import onnx_export

from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.engines import save_model
from medad_plugins.methods.ae import ConvAE
from medad_plugins.packaging import package_bundle

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "export.md"
SIZE = 32
pytestmark = pytest.mark.usefixtures("process_settings")


def _block(language: str, containing: str) -> str:
    """The one block of code in a language that contains some text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def _arguments(command: str) -> dict[str, Any]:
    """What Fire makes of a command's arguments."""
    words = shlex.split(command)
    names = [index for index, word in enumerate(words) if word.startswith("--")]
    values: dict[str, Any] = {}
    for index in names:
        text = words[index + 1]
        values[words[index][2:]] = ast.literal_eval(text) if text[0] in "[{" else text
    return values


def _packaged(folder: Path, reduction: str | float) -> Path:
    """An autoencoder of this reduction, calibrated on 39 scores, packaged and unpacked."""
    root = copy_bundle("ae", folder)
    torch.manual_seed(0)
    network = {"spatial_dims": 2, "in_channels": 1, "image_size": [SIZE, SIZE], "reduction": reduction}
    autoencoder = ConvAE(weights="none", **network).eval()  # type: ignore[arg-type]
    image = torch.from_numpy(generate_case(2, SIZE, 1)[0]).float()[None, None]
    with torch.no_grad():
        score = float(autoencoder.pool(autoencoder(image)))
    autoencoder.calibration.fit(score * torch.linspace(0.5, 1.5, 40)[:-1], torch.rand(1000))
    (root / "models").mkdir()
    settings = {"network": network, "image_size": SIZE, "spatial_dims": 2, "in_channels": 1}
    save_model(root / "models" / "model.pt", autoencoder, "ae", settings)
    with zipfile.ZipFile(package_bundle(root, folder / "dist")) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked" / "ae"


@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
def test_onnx_decides_as_the_bundle_does(
    reduction: str | float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed; it comes with medad-plugins[export]")
    monkeypatch.chdir(_packaged(tmp_path, reduction))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    onnx_export(**_arguments(_block("bash", "onnx_export").replace("128", str(SIZE))))
    names: dict[str, Any] = {}
    exec(_block("python", "onnxruntime").replace("128", str(SIZE)), names)

    from monai.bundle import create_workflow

    workflow: Any = create_workflow(config_file="configs/inference.yaml", workflow_type="infer", device="cpu")
    network = workflow.network_def
    with torch.no_grad():
        expected = network(torch.from_numpy(names["image"]))
    np.testing.assert_allclose(names["anomaly_map"], expected.numpy(), atol=1e-5)
    score = float(network.pool(expected))
    assert names["score"][0] == pytest.approx(score, rel=1e-5)
    assert names["p_value"][0] == network.calibration.p_value(score)
    assert f"{names['p_value'][0]} {names['p_value'][0] <= 0.05}" in capsys.readouterr().out


def test_in_memory_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel as nib

    root = _packaged(tmp_path, "max")
    monkeypatch.chdir(root)
    nib.save(nib.Nifti1Image(generate_case(2, SIZE, 2)[0].astype(np.float32), np.eye(4)), tmp_path / "scan.nii.gz")
    before = sorted(tmp_path.rglob("*"))
    names: dict[str, Any] = {}
    exec(_block("python", "dataset_data").replace("scan.nii.gz", str(tmp_path / "scan.nii.gz")), names)
    assert 0 < names["case"]["p_value"] <= 1
    assert str(names["case"]["p_value"]) in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before, "an application that has its scan in memory gets no files"

"""The application for MONAI Deploy with the real App SDK: the same answer as the bundle's own inference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runs import (
    BUNDLES,
    cannot,
    copy_bundle,
    read_map,
    read_nifti,
    read_table,
    run_config,
    small_values,
    write_cohort,
)
from dicom_studies import write_exam
from scan_samples import SECRETS

from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.dicom_results import FILE_NAMES
from medad_plugins.errors import find_input_error

pytest.importorskip("monai.deploy.core", reason="needs MONAI Deploy's App SDK")
hd: Any = pytest.importorskip("highdicom", reason="DICOM results need highdicom")
pytestmark = pytest.mark.deploy

APP = Path(__file__).resolve().parents[2] / "apps" / "deploy"
sys.path.insert(0, str(APP))

RUNS = [(bundle, dims) for bundle in BUNDLES for dims in (2, 3) if not cannot(bundle, f"spatial_dims_{dims}")]


def _train(bundle: str, spatial_dims: int, folder: Path) -> Path:
    root = copy_bundle(bundle, folder)
    values = {"spatial_dims": spatial_dims, "dataset_dir": str(write_cohort(folder / "cohort", spatial_dims))}
    values["output_dir"] = str(folder / "training")
    run_config(root, "train", **small_values(bundle, **values))
    return root


@pytest.fixture(scope="module", params=RUNS, ids=lambda run: f"{run[0]}-{run[1]}d")
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Every bundle, trained for two iterations."""
    bundle, spatial_dims = request.param
    return _train(bundle, spatial_dims, tmp_path_factory.mktemp("deploy")), spatial_dims


@pytest.fixture(scope="module")
def volume_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train("padim", 3, tmp_path_factory.mktemp("deploy"))


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    kept = {key: value for key, value in os.environ.items() if key.startswith("MEDAD_")}
    for key in kept:
        del os.environ[key]
    yield
    os.environ.update(kept)


def _exam(folder: Path, spatial_dims: int) -> Path:
    head = generate_case(spatial_dims, 36, 11, "bright_blob" if spatial_dims == 2 else None)[0]
    volume = np.rint(head[:34] * 3000).astype(np.uint16)
    write_exam(folder, volume if spatial_dims == 3 else volume[None])
    return folder


def _deploy(root: Path, study: Path, output: Path) -> Path:
    """The application in this process."""
    from anomaly_app import AnomalyApp
    from monai.deploy.core import AppContext

    output.mkdir()
    AnomalyApp(AppContext({"input": str(study), "output": str(output), "model": str(root)})).run()
    return output


def _on_grid(source: Path, values: Any, image: Any) -> np.ndarray:
    """A result's frames in the place of the NIfTI's voxels, by their positions."""
    grid = np.zeros_like(values)
    affine = np.linalg.inv(read_nifti(source).affine)
    frames = image.pixel_array.reshape(-1, image.Rows, image.Columns)
    for frame, groups in zip(frames, image.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float) * (-1, -1, 1)
        index = affine @ [*position, 1]
        np.testing.assert_allclose(index[:2], 0, atol=1e-3)
        grid[:, :, round(index[2])] = frame.T
    return grid


@pytest.mark.costly
def test_results_are_those_of_the_plain_inference(trained: tuple[Path, int], tmp_path: Path) -> None:
    root, spatial_dims = trained
    exam = _exam(tmp_path / "exam", spatial_dims)
    run_config(root, "inference", dataset_dir=str(exam), output_dir=str(tmp_path / "plain"), device="cpu")
    row = read_table(tmp_path / "plain")[0]
    written = _deploy(root, exam, tmp_path / "deploy")
    plain = read_map(tmp_path / "plain", row["case_id"])
    values = np.asarray(plain.dataobj)
    deployed = _on_grid(Path(plain.get_filename()), values, hd.imread(written / FILE_NAMES["map"]))
    np.testing.assert_allclose(deployed, values, atol=1e-4 * max(1.0, float(np.abs(values).max())))
    marked = np.asarray(read_nifti(tmp_path / "plain" / "masks" / f"{row['case_id']}.nii.gz").dataobj)
    region = written / FILE_NAMES["region"]
    assert region.exists() == marked.any()
    if marked.any():
        deployed_mask = _on_grid(Path(plain.get_filename()), marked, hd.seg.segread(region))
        assert (deployed_mask != marked).mean() < 1e-4
    group = hd.sr.srread(written / FILE_NAMES["report"]).content.get_image_measurement_groups()[0]
    figures = {item.name.value: item.value for item in group.get_measurements()}
    assert figures["anomaly_score"] == pytest.approx(float(row["anomaly_score"]), rel=1e-4)
    assert figures["C44185"] == pytest.approx(float(row["p_value"]), abs=1e-9)
    decision = group.get_qualitative_evaluations()[0].value.value
    not_flagged = "not_flagged" if row["can_flag"] == "True" else "cannot_flag"
    assert decision == ("flagged" if row["is_anomalous"] == "True" else not_flagged)
    assert figures["calibrated_on"] == int(row["calibrated_on"])


def _command(root: Path, study: Path, output: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--input", str(study), "--output", str(output), "--model", str(root)]
    return subprocess.run(
        [sys.executable, str(APP), *arguments],
        cwd=output.parent,
        env={**os.environ, **environment, "MEDAD_DEVICE": "cpu", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_on_an_oblique_examination(volume_bundle: Path, shared_data: Path, tmp_path: Path) -> None:
    study = shared_data / "dicom" / "pgbm003_flair"
    done = _command(volume_bundle, study, tmp_path / "results", MEDAD_ALPHA="0.3")
    assert done.returncode == 0, done.stdout + done.stderr
    parametric = hd.imread(tmp_path / "results" / FILE_NAMES["map"])
    assert parametric.pixel_array.shape == (22, 320, 280)
    report = hd.sr.srread(tmp_path / "results" / FILE_NAMES["report"])
    figures = {m.name.value: m.value for m in report.content.get_image_measurement_groups()[0].get_measurements()}
    assert figures["alpha"] == 0.3
    # what the SDK and highdicom would print of the header
    for value in ("1.3.6.1.4.1.14519", "FLAIR_reg", str(report.PatientID)):
        assert value not in done.stdout + done.stderr


def test_the_command_refuses_with_a_sentence(volume_bundle: Path, tmp_path: Path) -> None:
    exam = _exam(tmp_path / "exam", 3)
    sorted(exam.iterdir())[3].unlink()
    done = _command(volume_bundle, exam, tmp_path / "results")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the slices of the DICOM series do not form an even grid")
    assert "Traceback" not in done.stderr
    assert not [value for value in SECRETS.values() if value in done.stdout + done.stderr]
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("alpha", "alpha is out of range"),
        ("model", "there is no trained model"),
        ("bundle", "there is no bundle in the folder"),
        ("version", "needs a newer medad-plugins"),
    ],
)
def test_a_bundle_that_cannot_be_used(
    volume_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    root = volume_bundle if what == "alpha" else copy_bundle("padim", tmp_path)
    if what == "alpha":
        monkeypatch.setenv("MEDAD_ALPHA", "2")
    elif what == "bundle":
        root = tmp_path
    elif what == "version":
        path = root / "configs" / "metadata.json"
        metadata = json.loads(path.read_text("utf-8"))
        metadata["required_packages_version"]["medad-plugins"] = "99.0"
        path.write_text(json.dumps(metadata), "utf-8")
    with pytest.raises(Exception) as raised:
        _deploy(root, tmp_path / "nothing", tmp_path / "results")
    # reported before the study is looked for
    assert message in str(find_input_error(raised.value))

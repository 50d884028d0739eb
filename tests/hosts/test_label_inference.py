"""MONAI Label's server and tasks give what ``monai.bundle run`` writes, in the scan's geometry."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from bundle_runs import BUNDLES, cannot, copy_bundle, write_scans
from PIL import Image
from scan_samples import OBLIQUE, SECRETS, write_series

from medad_plugins.data.sample_cohort import generate_case
from medad_plugins.packaging import package_bundle

pytest.importorskip("monailabel", reason="needs MONAI Label: see docs/monai_label.md")

import httpx
import nibabel as nib
from label_models import ServedBundle
from label_server import LabelServer, import_host, label_server, run_monailabel

pytestmark = pytest.mark.label
ALPHA, OTHER_ALPHA = 0.999, 0.001  # nearly all scans are flagged, and none


PAIRS = [("ae", 2), ("padim", 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("label")


@pytest.fixture(scope="module")
def bundles(folder: Path) -> dict[int, ServedBundle]:
    return {dims: ServedBundle.train(bundle, dims, folder) for bundle, dims in PAIRS}


@pytest.fixture(scope="module")
def scans(folder: Path) -> dict[int, Path]:
    found = {dims: write_scans(folder / f"scans_{dims}d", dims) for dims in (2, 3)}
    # a head as a scanner sees it, so that its map has more than high values
    head = np.rint(generate_case(3, 40, 11)[0][::-1, ::-1].transpose(2, 1, 0) * 3000).astype(np.uint16)
    write_series(found[3] / "oblique", head, OBLIQUE, spacing=(5.0, 5.0), offsets=[5.0 * k for k in range(40)])
    return found


@pytest.fixture(scope="module")
def server(folder: Path, bundles: dict[int, ServedBundle]) -> Iterator[LabelServer]:
    models = ",".join(str(bundle.root) for bundle in bundles.values())
    with label_server(folder, "--studies", str(folder / "studies"), "--conf", "models", models) as running:
        yield running


def _nifti(content: bytes) -> Any:
    return nib.Nifti1Image.from_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)


def _assert_same_volume(content: bytes, expected: Any) -> None:
    found = _nifti(content)
    assert np.allclose(found.affine, expected.affine, atol=1e-4)
    mask = np.asarray(expected.dataobj)
    assert 0 < mask.sum() < mask.size, "a mask of one value would prove nothing"
    assert np.array_equal(np.asarray(found.dataobj), mask)


def test_info_tells_what_can_be_turned(server: LabelServer) -> None:
    models = server.client.get("/info/").json()["models"]
    assert {name: model["dimension"] for name, model in models.items()} == {"ae": 2, "padim": 3}
    assert models["padim"]["config"]["alpha"] == 0.05
    assert models["padim"]["labels"] == {"anomaly": 1}


@pytest.mark.parametrize("name", ["volume.nii.gz", "plain.nii"])
def test_nifti(
    name: str, server: LabelServer, bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path
) -> None:
    expected = bundles[3].run(scans[3] / name, tmp_path, ALPHA)
    answer = server.infer("padim", scans[3] / name, alpha=ALPHA)
    _assert_same_volume(answer.file, expected.mask)
    assert expected.agrees_with(answer.params)
    held_out = int(expected.row["calibrated_on"])
    assert held_out > 0
    said = {"alpha": ALPHA, "bundle": "padim", "calibrated_on": held_out, "can_flag": True}
    assert {name: answer.params[name] for name in said} == said
    (shown,) = answer.params["label_names"]
    decision = "anomaly" if answer.params["is_anomalous"] else "not flagged"
    assert shown == f"{decision}, p {answer.params['p_value']:.2g}", "viewers show the names of labels, not parameters"


def test_dicom_series(
    server: LabelServer, bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path
) -> None:
    expected = bundles[3].run(scans[3] / "oblique", tmp_path, ALPHA)
    session = server.open_session(sorted((scans[3] / "oblique").iterdir()))
    answer = server.infer("padim", session, alpha=ALPHA)
    _assert_same_volume(answer.file, expected.mask)
    assert expected.agrees_with(answer.params)
    shown = server.log.read_text() + str(answer.params)
    assert [value for value in SECRETS.values() if value in shown] == []


def test_alpha_turns_mask_and_decision(
    server: LabelServer, bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path
) -> None:
    scan = scans[3] / "volume.nii.gz"
    wide = server.infer("padim", scan, alpha=ALPHA)
    narrow = server.infer("padim", scan, alpha=str(OTHER_ALPHA))  # as a viewer's text field sends it
    assert not np.asarray(bundles[3].run(scan, tmp_path, OTHER_ALPHA).mask.dataobj).any()
    assert _nifti(narrow.file).get_fdata().sum() == 0 < _nifti(wide.file).get_fdata().sum()
    assert narrow.params["pixel_threshold"] == wide.params["pixel_threshold"]
    assert (narrow.params["is_anomalous"], wide.params["is_anomalous"]) == (False, True)
    assert narrow.params["anomaly_score"] == wide.params["anomaly_score"]
    assert (narrow.params["alpha"], wide.params["alpha"]) == (OTHER_ALPHA, ALPHA)


def test_what_is_wrong_with_a_request_is_said_in_a_sentence(server: LabelServer, scans: dict[int, Path]) -> None:
    scan = scans[3] / "plain.nii"
    with pytest.raises(httpx.HTTPStatusError, match="alpha is out of range .*found 2"):
        server.infer("padim", scan, alpha=2)
    with pytest.raises(httpx.HTTPStatusError, match="no such model: model_filename .*expected one of model.pt"):
        server.infer("padim", scan, model_filename="../../model.pt")
    with pytest.raises(httpx.HTTPStatusError, match="the NIfTI file is truncated, damaged or not NIfTI"):
        server.infer("padim", scans[3] / "damaged.nii.gz")


def test_an_unknown_name_is_never_another_scan(server: LabelServer, scans: dict[int, Path]) -> None:
    """MONAI Label makes an empty path of it, which is the server's folder."""
    for params in ({"image": "nobody"}, {"session_id": "nobody"}, {"image": "studies"}, {"image": "."}):
        reply = server.client.post("/infer/padim", params=params)
        assert reply.status_code == 404, reply.text
        assert "there is no image or session of that name" in reply.json()["detail"]


def test_what_does_not_exist_or_is_no_json_is_answered_in_a_sentence(
    server: LabelServer, scans: dict[int, Path]
) -> None:
    scan = scans[3] / "plain.nii"
    sent = {"file": (scan.name, scan.read_bytes())}
    reply = server.client.post("/infer/nosuch", files=sent)
    assert (reply.status_code, "no model of that name: nosuch" in reply.text) == (404, True), reply.text
    reply = server.client.post("/infer/padim", files=sent, data={"params": "{alpha: 0.1"})
    assert (reply.status_code, "params is not JSON" in reply.text) == (400, True), reply.text


def test_advice_is_for_requests(server: LabelServer, scans: dict[int, Path]) -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        server.infer("padim", scans[3] / "plain.nii", alpha=2)
    assert "e.g. alpha 0.05" in str(refused.value) and "--" not in str(refused.value)


def test_alpha_reads_no_model_again(
    bundles: dict[int, ServedBundle], scans: dict[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import_host()
    from medad_label.inference_task import AnomalyInferTask

    task = AnomalyInferTask(str(bundles[3].root), {})
    read: list[Path] = []
    original = task._read

    def counted(model: Path, *others: Any) -> Any:
        read.append(model)
        return original(model, *others)

    monkeypatch.setattr(task, "_read", counted)
    request = {"image": str(scans[3] / "plain.nii"), "device": "cpu", "skip_writer": True}
    found = [task({**request, "alpha": alpha})[1] for alpha in (ALPHA, OTHER_ALPHA, ALPHA)]
    assert len(read) == 1
    assert [case["alpha"] for case in found] == [ALPHA, OTHER_ALPHA, ALPHA]
    assert [case["is_anomalous"] for case in found] == [True, False, True]


def test_one_broken_scan_ends_no_batch_and_is_not_offered(
    bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_host()
    from medad_label.app import MedADApp
    from monailabel.config import settings

    # MONAI Label's watching thread changes what `refresh` walks over
    monkeypatch.setattr(settings, "MONAI_LABEL_DATASTORE_AUTO_RELOAD", False)

    studies = tmp_path / "studies"
    studies.mkdir()
    for name in ("a.nii", "c.nii"):
        (studies / name).write_bytes((scans[3] / "plain.nii").read_bytes())
    (studies / "b.nii").write_bytes((scans[3] / "plain.nii").read_bytes()[:5000])
    app = MedADApp(str(tmp_path / "app"), str(studies), {"models": str(bundles[3].root)})
    results = app.batch_infer({"model": "padim", "images": "all", "device": "cpu", "max_workers": 1})
    assert {name: "error" in result for name, result in results.items()} == {"a": False, "b": True, "c": False}
    assert "truncated" in results["b"]["error"]
    assert (studies / "labels" / "original" / "c.nii").is_file()
    offered = {app.next_sample({"strategy": name})["id"] for name in ("first", "random") for _ in range(8)}
    assert offered <= {"a", "c"}
    for name in ("a.nii", "c.nii"):
        (studies / name).unlink()
    app.datastore().refresh()
    assert app.next_sample({"strategy": "first"}) == {}


def test_what_is_not_offered_is_said(tmp_path: Path) -> None:
    import_host()
    from medad_label.studies import say_what_is_not_offered

    for name in ("a.nii.gz", "b.PNG", "c.mha", "series/1.dcm", "series/2.dcm", "labels/final/a.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    sentence = say_what_is_not_offered(tmp_path, ["*.nii.gz", "*.PNG"])
    assert "1 .mha, 2 in folders, such as DICOM series;" in sentence
    for name in ("c.mha", "series/1.dcm", "series/2.dcm"):
        (tmp_path / name).unlink()
    assert say_what_is_not_offered(tmp_path, ["*.nii.gz", "*.PNG"]) == ""


def test_options_are_never_run_as_code(server: LabelServer, scans: dict[int, Path], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for text in (f"$open('{trace}', 'w') and 0.5", "@batch_size", {"_target_": "builtins.open", "file": str(trace)}):
        with pytest.raises(httpx.HTTPStatusError, match="a value of the request cannot be used: alpha"):
            server.infer("padim", scans[3] / "plain.nii", alpha=text)
    assert not trace.exists()


def test_picture(server: LabelServer, bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path) -> None:
    expected = bundles[2].run(scans[2] / "picture.png", tmp_path, ALPHA)
    answer = server.infer("ae", scans[2] / "picture.png", alpha=ALPHA)
    mask = np.asarray(Image.open(io.BytesIO(answer.file)))
    assert 0 < mask.sum() < mask.size
    assert np.array_equal(mask * np.uint8(255), expected.mask)
    assert expected.agrees_with(answer.params)


@pytest.mark.parametrize("name", ["slice.nii.gz", "exam.dcm"])
def test_slice_keeps_its_geometry(
    name: str, server: LabelServer, bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path
) -> None:
    expected = bundles[2].run(scans[2] / name, tmp_path, ALPHA)
    _assert_same_volume(server.infer("ae", scans[2] / name, alpha=ALPHA).file, expected.mask)


def test_stock_app_serves_a_bundle_folder_without_network(
    bundles: dict[int, ServedBundle], scans: dict[int, Path], tmp_path: Path
) -> None:
    run_monailabel(tmp_path, "apps", "--download", "--name", "monaibundle", "--output", str(tmp_path))
    served = copy_bundle("padim", tmp_path / "monaibundle" / "model")
    (served / "models").mkdir()
    (served / "models" / "model.pt").write_bytes((bundles[3].root / "models" / "model.pt").read_bytes())
    conf = "--conf models padim --conf zoo_source local --conf sam2 false".split()
    expected = bundles[3].run(scans[3] / "oblique", tmp_path / "expected", ALPHA)
    with label_server(tmp_path, "--app", "monaibundle", "--studies", "studies", *conf) as stock:
        session = stock.open_session(sorted((scans[3] / "oblique").iterdir()))
        answer = stock.infer("padim", session, alpha=ALPHA, result_extension=".nii.gz")
    _assert_same_volume(answer.file, expected.mask)


@pytest.mark.costly
@pytest.mark.parametrize(
    ("bundle", "spatial_dims"),
    [(b, d) for b in BUNDLES for d in (2, 3) if not cannot(b, f"spatial_dims_{d}")],
)
def test_tasks_give_the_same_map_also_when_packaged(
    bundle: str, spatial_dims: int, scans: dict[int, Path], tmp_path: Path
) -> None:
    import_host()
    from medad_label.inference_task import AnomalyInferTask
    from monailabel.tasks.infer.bundle import BundleInferTask

    served = ServedBundle.train(bundle, spatial_dims, tmp_path)
    scan = scans[spatial_dims] / ("picture.png" if spatial_dims == 2 else "volume.nii.gz")
    expected = served.run(scan, tmp_path / "expected", ALPHA)
    packaged = package_bundle(served.root, tmp_path / "dist")
    with ZipFile(packaged) as archive:
        archive.extractall(tmp_path / "unpacked")
    for root in (served.root, tmp_path / "unpacked" / bundle):
        for task in (AnomalyInferTask(str(root), {}), BundleInferTask(str(root), {})):
            request = {"image": str(scan), "device": "cpu", "alpha": ALPHA, "skip_writer": True}
            _, case = task(request)
            found = np.asarray(case["anomaly_map"][0])
            assert np.abs(found.reshape(expected.map.shape) - expected.map).max() < 1e-4
            assert expected.agrees_with(case)

"""One scan, one answer: whichever way a bundle is called, its map, score, p-value and decision are the same.

Tested here for the ways that need no host; MONAI Label and MONAI Deploy are tested in ``tests/hosts``.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import (
    Trained,
    only_if_able,
    open_config,
    read_map,
    read_table,
)
from monai.bundle import create_workflow
from monai.bundle.scripts import ckpt_export, onnx_export
from monai.transforms import LoadImage
from torch import Tensor

from medad_plugins.transforms import AnomalyPostprocessing

TOLERANCE = 1e-4
ROUNDING = 4e-6  # of values above 25, of which single precision has seven digits
ALPHA = 0.5  # of four reference scores p-values are 0.2 to 1: both decisions can be had
pytestmark = [
    pytest.mark.usefixtures("process_settings"),
    pytest.mark.filterwarnings("ignore:.*dynamic_axes:UserWarning"),  # the only spelling that MONAI passes on
    pytest.mark.filterwarnings("ignore:.*dynamic_axes:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # PyTorch about itself
    pytest.mark.filterwarnings("ignore:NvImgCodec:UserWarning"),
]


@dataclass(frozen=True)
class Answer:
    """What a reader gets to see of a scan: map on the scan's own grid ``(*scan)``, score, p-value, decision."""

    anomaly_map: Tensor
    score: float
    p_value: float
    is_anomalous: bool

    @classmethod
    def of(cls, case: Mapping[Any, Any]) -> Answer:
        """What postprocessing found."""
        values = torch.as_tensor(case["anomaly_map"])[0]
        return cls(values, case["anomaly_score"], case["p_value"], case["is_anomalous"])

    @property
    def size(self) -> float:
        """What the score is rounded by: of a map of both signs it is a sum in which large values cancel."""
        signed = float(self.anomaly_map.min()) < 0
        return max(abs(self.score), float(self.anomaly_map.abs().max()) if signed else 0.0)


@dataclass(frozen=True)
class Question:
    """A trained bundle, a scan with a geometry of its own, and the answer of the network that training left."""

    trained: Trained
    scan: Path
    answer: Answer
    inference: Any

    @property
    def image(self) -> Tensor:
        """The scan as the network takes it ``(1, C, *spatial)``."""
        image: Tensor = self.inference.preprocessing({"image": str(self.scan)})["image"].as_tensor()
        return image[None]

    def decided(self, network: Callable[[Tensor], Tensor]) -> Answer:
        """The answer where the map comes from an exported network and the rest from the bundle."""
        case = self.inference.preprocessing({"image": str(self.scan), "case_id": "scan"})
        with torch.no_grad():
            case["pred"] = network(case["image"].as_tensor()[None])[0]
        return Answer.of(self.inference.postprocessing(case))

    def export_arguments(self) -> dict[str, Any]:
        """What MONAI's export commands are given."""
        configs = self.trained.root / "configs"
        return {
            "net_id": "network_def",
            "ckpt_file": str(self.trained.model),
            "meta_file": str(configs / "metadata.json"),
            "config_file": str(configs / "inference.yaml"),
            "key_in_ckpt": "model",
            "ckpt_path": str(self.trained.model),
            "device": "cpu",
        }


@pytest.fixture(scope="module")
def question(trained: Trained, scans: dict[int, Path]) -> Question:
    inference = open_config(trained.root, "inference", device="cpu", output_dir="", alpha=ALPHA)
    reference = trained.network.calibration.reference_scores
    postprocessing = AnomalyPostprocessing(inference.preprocessing, trained.network, ALPHA)
    # a scan that scores as a held-out one does would make p-values differ by rounding: then another
    for name in ("slice.nii.gz", "picture.png") if trained.spatial_dims == 2 else ("volume.nii.gz", "plain.nii"):
        scan = scans[trained.spatial_dims] / name
        case = inference.preprocessing({"image": str(scan), "case_id": "scan"})
        with torch.no_grad():
            case["pred"] = trained.network(case["image"].as_tensor()[None])[0]
        answer = Answer.of(postprocessing(case))
        # scores that ways of running agree in to rounding, about 1e-6 of them
        is_tie = float((reference - answer.score).abs().min()) <= 1e-5 * answer.size
        if not is_tie:
            break
    assert not is_tie, "a tie would make p-values differ"
    return Question(trained, scan, answer, inference)


def _allowed(largest: float) -> float:
    return max(TOLERANCE * min(1.0, largest), ROUNDING * largest)


def _assert_same(answer: Answer, expected: Answer) -> None:
    """Equal to 1e-4, where the map's values are small to 1e-4 of its largest, and where they are large to rounding."""
    allowed = _allowed(float(expected.anomaly_map.abs().max()))
    torch.testing.assert_close(answer.anomaly_map, expected.anomaly_map, rtol=0, atol=allowed)
    assert answer.score == pytest.approx(expected.score, rel=0, abs=_allowed(expected.size))
    assert answer.p_value == pytest.approx(expected.p_value, abs=1e-12)
    assert answer.is_anomalous == expected.is_anomalous


@pytest.mark.costly_in_3d
def test_inference_writes_the_answer(question: Question, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    shutil.copy(question.scan, scans)
    question.trained.run("inference", tmp_path / "output", dataset_dir=str(scans), alpha=ALPHA, save=["map"])
    (row,) = read_table(tmp_path / "output")
    written = torch.from_numpy(read_map(tmp_path / "output", row["case_id"]).get_fdata(dtype="float32"))
    expected = question.answer.anomaly_map
    answer = Answer(
        written.reshape(expected.shape),
        float(row["anomaly_score"]),
        float(row["p_value"]),
        row["is_anomalous"] == "True",
    )
    _assert_same(answer, question.answer)


@pytest.mark.costly_in_3d
def test_workflow_in_memory_gives_the_answer(question: Question, tmp_path: Path) -> None:
    """As an application does that has MONAI's workflow and a scan in memory, and no file.

    The intensities must come as they were stored: 8 bits are scaled otherwise than measured values.
    """
    workflow: Any = create_workflow(
        config_file=str(question.trained.root / "configs" / "inference.yaml"),
        workflow_type="infer",
        logging_file=False,
        device="cpu",
        output_dir=str(tmp_path),
        alpha=ALPHA,
        save=[],
    )
    workflow.dataset_data = [{"image": LoadImage(dtype=None)(question.scan), "case_id": "scan"}]
    workflow.initialize()
    workflow.run()
    (found,) = workflow.evaluator.state.output
    _assert_same(Answer.of(found), question.answer)


@pytest.mark.costly_in_3d
def test_torchscript_gives_the_answer(question: Question, tmp_path: Path) -> None:
    with only_if_able(question.trained.bundle, "ckpt_export"):
        ckpt_export(filepath=str(tmp_path / "model.ts"), **question.export_arguments())
        exported: Any = torch.jit.load(str(tmp_path / "model.ts"))
        _assert_same(question.decided(exported), question.answer)
        # all that a decision needs came along
        with torch.no_grad():
            score = float(exported.pool(exported(question.image)))
        assert score == pytest.approx(question.answer.score, rel=TOLERANCE)
        reference = question.trained.network.calibration.reference_scores
        assert torch.equal(exported.calibration.reference_scores, reference)


@pytest.mark.costly
@pytest.mark.slow_in_3d
def test_exported_programs_give_the_answer(question: Question, tmp_path: Path) -> None:
    """One program for ``torch.export`` and for ONNX: to trace it is what costs most."""
    _needs("onnx", "onnxscript", "onnxruntime")
    two = question.image.repeat(2, *[1] * (question.image.dim() - 1))  # of one, the batch would be taken for fixed
    program = question.inference.network_def
    with only_if_able(question.trained.bundle, "torch_export"):
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(program, (two,), dynamic_shapes=({0: batch},))
        torch.export.save(program, tmp_path / "model.pt2")
        loaded = torch.export.load(tmp_path / "model.pt2")
        _assert_same(question.decided(loaded.module()), question.answer)
        reference = question.trained.network.calibration.reference_scores
        assert torch.equal(loaded.state_dict["calibration.reference_scores"], reference)
    with only_if_able(question.trained.bundle, "onnx_export"):
        path = tmp_path / "model.onnx"
        torch.onnx.export(program, (two,), str(path), input_names=["image"], output_names=["pred"], dynamo=True)
        _assert_onnx_gives_the_answer(path, question)


@pytest.mark.slow_but_for("edc")
@pytest.mark.slow_in_3d
def test_onnx_by_monai_gives_the_answer(question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _needs("onnx", "onnxscript", "onnxruntime")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the exporter leaves weights in the temporary folder
    with only_if_able(question.trained.bundle, "onnx_export"):
        path = tmp_path / "model.onnx"
        any_batch = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": {"image": {0: "batch"}}}
        # traced with two cases: of one, the exporter would take the batch for fixed
        shape = [2, *question.image.shape[1:]]
        onnx_export(filepath=str(path), input_shape=shape, converter_kwargs=any_batch, **question.export_arguments())
        _assert_onnx_gives_the_answer(path, question)


def _needs(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed; it comes with medad-plugins[export]")


def _assert_onnx_gives_the_answer(path: Path, question: Question) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def exported(image: Tensor) -> Tensor:
        (anomaly_map,) = session.run(["pred"], {"image": image.numpy()})
        return torch.from_numpy(anomaly_map)

    _assert_same(question.decided(exported), question.answer)
    three = question.image.repeat(3, *[1] * (question.image.dim() - 1))
    assert exported(three).shape == three.shape

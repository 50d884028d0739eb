"""The report on a labelled test set."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.engines.evaluator import SupervisedEvaluator
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor

from medad_plugins.data import FaultTolerantLoader, ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.handlers import EvaluationReport
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.transforms import AnomalyPostprocessing, ScanPreprocessing, read_mask

pytestmark = pytest.mark.pictures

ROWS, COLUMNS = 20, 14
LESION = (slice(3, 8), slice(6, 12))  # rows, columns


class BrightnessNetwork(AnomalyNetwork):
    """Its map is the scan, so a bright spot is an anomaly."""

    def __init__(self) -> None:
        super().__init__()
        references = torch.linspace(0.1, 0.49, 40)
        self.calibration.fit(references, references)

    def anomaly_map(self, image: Tensor) -> Tensor:
        return image.mean(1, keepdim=True)


def _case(folder: Path, name: str, label: int, brightness: int, mask: bool = True) -> dict[str, Any]:
    pixels = np.random.RandomState(len(name)).randint(0, 60, (ROWS, COLUMNS)).astype(np.uint8)
    pixels[LESION] = brightness
    Image.fromarray(pixels).save(folder / f"{name}.png")
    case = {"image": str(folder / f"{name}.png"), "case_id": name, "label": label, "mask": ""}
    if label and mask:
        truth = np.zeros((ROWS, COLUMNS), dtype=np.uint8)
        truth[LESION] = 255
        Image.fromarray(truth).save(folder / f"{name}_mask.png")
        case["mask"] = str(folder / f"{name}_mask.png")
    return case


def _report(
    cases: list[dict[str, Any]],
    output: Path,
    size: tuple[int, int] = (ROWS, COLUMNS),
    save: tuple[str, ...] = (),
    **arguments: Any,
) -> EvaluationReport:
    preprocessing = ScanPreprocessing(ScanFormat(2, image_size=size))
    network = BrightnessNetwork()
    postprocessing = AnomalyPostprocessing(preprocessing, network, output_dir=output, save=save)
    report = EvaluationReport(output, postprocessing, **arguments)
    SupervisedEvaluator(
        torch.device("cpu"),
        FaultTolerantLoader(cases, preprocessing, batch_size=2),
        network,
        postprocessing=postprocessing,
        val_handlers=[report],
    ).run()
    return report


def test_figures_and_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = [
        _case(tmp_path, "normal_a", 0, 40),
        _case(tmp_path, "normal_bright", 0, 160),
        _case(tmp_path, "normal_c", 0, 45),
        _case(tmp_path, "lesion_a", 1, 250),
        _case(tmp_path, "lesion_b", 1, 230),
        _case(tmp_path, "lesion_faint", 1, 70),
        _case(tmp_path, "lesion_unmasked", 1, 240, mask=False),
    ]
    output = tmp_path / "out"
    with caplog.at_level(logging.INFO, "medad_plugins"):
        report = _report(cases, output, save=("overlay",))
    figures = json.loads((output / "evaluation.json").read_text())
    facts = figures.pop("run")
    assert (facts["network"], facts["parameters"], facts["gpu_memory_mib"]) == ("BrightnessNetwork", 0, None)
    assert 50 < facts["peak_memory_mib"] < 100_000
    said = {"calibrated_on": 40, "can_flag": True, "masks_left_out": 0}
    assert figures == report.summary() | said
    assert (figures["n_normal"], figures["n_abnormal"], figures["n_masked"]) == (3, 4, 3)
    assert figures["auroc"] == pytest.approx(11 / 12)  # only the faint lesion is below the bright normal
    assert figures["false_positive_rate"] == pytest.approx(1 / 3)
    assert figures["sensitivity"] == pytest.approx(3 / 4)
    assert figures["dice_case_mean"] == pytest.approx((1 + 1 + 0) / 3)
    assert figures["marked_share_of_normal_case"] == pytest.approx(30 / (ROWS * COLUMNS) / 3), "the bright one's square"
    assert figures["dice_share_of_best"] == pytest.approx(figures["dice_case_mean"] / figures["best_dice_pooled"])

    masked = [case for case in cases if case["label"] == 0 or case["mask"]]
    values = np.stack([np.asarray(Image.open(case["image"])) for case in masked]) / 255
    truth = np.zeros(values.shape, dtype=bool)
    abnormal = [index for index, case in enumerate(masked) if case["label"]]
    truth[(abnormal, *LESION)] = True
    assert figures["pixel_ap"] == pytest.approx(average_precision_score(truth.ravel(), values.ravel()), abs=1e-3)
    assert figures["dice_case_mean"] <= figures["best_dice_pooled"] <= 1

    names = ("roc.png", "scores.png", "examples.png", "report.html")
    assert [name for name in names if not (output / name).is_file()] == []
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "BrightnessNetwork on test" in page
    assert "lesion_faint" in page  # the worst false negative
    (line,) = [message for message in caplog.messages if message.startswith("test: ")]
    assert line.startswith("test: AUROC 0.917, AP ")
    assert "accuracy 0.71 at alpha 0.05 (false-positive rate 0.33 [0.01, 0.91]), pixel AP " in line
    assert line.endswith(", Dice 0.67 (n = 3 normal, 4 abnormal)")


def test_the_threshold_of_best_f1_on_validation_cases(tmp_path: Path) -> None:
    cases = [_case(tmp_path, "n", 0, 100), _case(tmp_path, "bright", 0, 130), _case(tmp_path, "lesion", 1, 250)]
    validation = [_case(tmp_path, "v_n", 0, 80), _case(tmp_path, "v_lesion", 1, 120), _case(tmp_path, "v_high", 1, 200)]
    assert _report(cases, tmp_path / "none").summary()["validation_f1_accuracy"] is None
    _report(cases, tmp_path / "both", validation=validation)
    figures = json.loads((tmp_path / "both" / "evaluation.json").read_text())
    # at or just below the lowest abnormal validation score: the bright normal case is above it
    assert 80 / 255 < figures["validation_f1_threshold"] <= 120 / 255 + 1e-6
    assert figures["validation_f1_accuracy"] == pytest.approx(2 / 3)
    one_class = _report(cases, tmp_path / "one", validation=validation[1:])
    assert one_class.summary()["validation_f1_threshold"] is None


def test_a_path_gives_the_report_its_last_part_as_name(tmp_path: Path) -> None:
    cases = [_case(tmp_path, "n", 0, 40), _case(tmp_path, "lesion", 1, 250)]
    assert _report(cases, tmp_path / "out", name=tmp_path).name == tmp_path.name
    assert _report(cases, tmp_path / "out", name="").name == "sample cohort"
    assert _report(cases, tmp_path / "out", name="Br35H (mine.csv)").name == "Br35H (mine.csv)"


def test_masks_on_the_scans_grid_are_compared_after_restoring(tmp_path: Path) -> None:
    report = _report([_case(tmp_path, "lesion", 1, 250), _case(tmp_path, "n", 0, 30)], tmp_path / "out", size=(32, 24))
    assert report.summary()["dice_case_mean"] > 0.8


def test_without_masks_there_are_no_pixel_figures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = [_case(tmp_path, "n", 0, 40), _case(tmp_path, "lesion", 1, 250, mask=False)]
    with caplog.at_level(logging.INFO, "medad_plugins"):
        figures = _report(cases, tmp_path / "out").summary()
    assert figures["auroc"] == 1.0
    assert figures["pixel_ap"] is figures["dice_case_mean"] is figures["best_dice_pooled"] is None
    assert "pixel" not in caplog.text
    assert not (tmp_path / "out" / "examples.png").exists()


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(tmp_path: Path, label: int, caplog: pytest.LogCaptureFixture) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "roc.png").touch()  # of an earlier run
    cases = [_case(tmp_path, f"case{index}", label, 60 + 90 * index) for index in range(3)]
    with caplog.at_level(logging.INFO, "medad_plugins"):
        _report(cases, output)
    assert json.loads((output / "evaluation.json").read_text())["auroc"] is None
    assert "AUROC and AP undefined (cases of one class only)" in caplog.text
    assert not (output / "roc.png").exists()
    assert (output / "scores.png").is_file()


def test_an_earlier_runs_example_sheet_does_not_stay(tmp_path: Path) -> None:
    output = tmp_path / "out"
    cases = [_case(tmp_path, "n", 0, 40), _case(tmp_path, "lesion", 1, 250)]
    _report(cases, output, save=("overlay",))
    assert (output / "examples.png").is_file()
    _report(cases, output)
    assert not (output / "examples.png").exists()


def test_nothing_labelled_is_an_error(tmp_path: Path) -> None:
    case = {key: value for key, value in _case(tmp_path, "n", 0, 40).items() if key != "label"}
    with pytest.raises(InputError, match="nothing to evaluate"):
        _report([case], tmp_path / "out")


def test_a_mask_of_another_size_costs_its_own_case_the_pixel_figures_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case, good = _case(tmp_path, "lesion", 1, 250), _case(tmp_path, "good", 1, 250)
    Image.fromarray(np.eye(COLUMNS + 1, ROWS, dtype=np.uint8)).save(case["mask"])
    report = _report([case, good], tmp_path / "out")
    (found,) = [message for message in caplog.messages if "left out" in message]
    assert "14 x 20" in found
    assert "20 x 15" in found
    assert "lesion" in found
    assert len(report.cases) == 2
    figures = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (figures["n_abnormal"], figures["masks_left_out"]) == (2, 1)
    assert figures["pixel_ap"] == 1


def test_labels_and_masks_that_contradict_each_other_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outlined, empty = _case(tmp_path, "lesion_a", 1, 250), _case(tmp_path, "lesion_b", 1, 250)
    outlined["label"] = 0
    Image.fromarray(np.zeros((ROWS, COLUMNS), dtype=np.uint8)).save(empty["mask"])
    unreadable = _case(tmp_path, "lesion_c", 1, 250)
    unreadable["label"] = 0
    Path(unreadable["mask"]).write_bytes(b"x")
    _report([outlined, empty, unreadable, _case(tmp_path, "good", 1, 250)], tmp_path / "out")
    assert "1 case with label 0 and a mask that is not empty: lesion_a." in caplog.text
    assert "1 case with label 1 and an empty mask: lesion_b." in caplog.text
    assert "the mask of lesion_c, a normal case, cannot be read" in caplog.text


def test_memory_does_not_grow_with_the_cases(tmp_path: Path) -> None:
    report = _report([_case(tmp_path, f"case{index}", index % 2, 250) for index in range(4)], tmp_path / "out")
    kept = [value for case in report.cases for value in vars(case).values()]
    assert all(isinstance(value, (int, float, str)) for value in kept)


def test_reading_masks(tmp_path: Path) -> None:
    truth = np.zeros((ROWS, COLUMNS), dtype=bool)
    truth[LESION] = True
    Image.fromarray((truth * 1).astype(np.uint8)).save(tmp_path / "ones.png")
    Image.fromarray((truth * 255).astype(np.uint8)).save(tmp_path / "ringing.jpg", quality=60)
    rgba = np.dstack([truth * 200, truth * 0, truth * 0, np.full(truth.shape, 255)]).astype(np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    labels = truth.T * np.array([1, 4] * (COLUMNS // 2))[:, None]
    nib.save(nib.Nifti1Image(labels[..., None].astype(np.int16), np.diag([-1.0, 2, 1, 1])), tmp_path / "labels.nii.gz")
    for name in ("ones.png", "ringing.jpg", "rgba.png", "labels.nii.gz"):
        read = read_mask(tmp_path / name, (COLUMNS, ROWS))
        assert read.dtype == bool
        assert np.array_equal(read, truth.T), name
    Image.fromarray(np.zeros((ROWS, COLUMNS), dtype=np.uint8)).save(tmp_path / "empty.png")
    assert not read_mask(tmp_path / "empty.png", (COLUMNS, ROWS)).any()
    with pytest.raises(InputError):
        read_mask(tmp_path / "missing.png", (COLUMNS, ROWS))

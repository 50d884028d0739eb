"""The table of results."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from monai.engines.evaluator import SupervisedEvaluator
from PIL import Image
from torch import Tensor

from medad_plugins.data import FaultTolerantLoader, ScanFormat
from medad_plugins.engines import CaseEvaluator
from medad_plugins.errors import InputError
from medad_plugins.handlers import EvaluationReport, ResultsTable
from medad_plugins.handlers.results import control_false_discoveries, in_list_order
from medad_plugins.networks.anomaly_network import AnomalyNetwork
from medad_plugins.transforms import AnomalyPostprocessing, ScanPreprocessing


class BrightnessNetwork(AnomalyNetwork):
    """Its map is the scan, so a bright spot is an anomaly; it fails where configured to."""

    def __init__(self, fails_at_call: int = -1) -> None:
        super().__init__()
        self.calls, self.fails_at_call = 0, fails_at_call
        references = torch.linspace(0.1, 0.49, 40)
        self.calibration.fit(references, references)

    def anomaly_map(self, image: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at_call:
            raise MemoryError
        return image.mean(1, keepdim=True)


def _cases(folder: Path, count: int, broken: tuple[int, ...] = (), label: bool = True) -> list[dict[str, Any]]:
    """Pictures 10 x 12, of which every second has a bright spot."""
    cases = []
    for index in range(count):
        path = folder / f"scan{index}.png"
        pixels = np.full((12, 10), 20, dtype=np.uint8)
        pixels[0, 0] = 10
        pixels[5:8, 3:6] = 240 if index % 2 else 40
        Image.fromarray(pixels).save(path)
        if index in broken:
            path.write_bytes(path.read_bytes()[:40])
        cases.append({"image": str(path), "case_id": f"scan{index}", **({"label": index % 2} if label else {})})
    return cases


def _evaluate(cases: list[dict[str, Any]], output: Path, network: AnomalyNetwork, report: bool = False) -> ResultsTable:
    preprocessing = ScanPreprocessing(ScanFormat(2, image_size=16))
    loader = FaultTolerantLoader(cases, preprocessing, batch_size=2)
    table = ResultsTable(output, loader)
    postprocessing = AnomalyPostprocessing(preprocessing, network)
    SupervisedEvaluator(
        torch.device("cpu"),
        loader,
        network,
        postprocessing=postprocessing,
        val_handlers=[table, EvaluationReport(output, postprocessing)] if report else [table],
    ).run()
    return table


def _read(output: Path) -> list[dict[str, str]]:
    with (output / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_of_good_and_bad_cases(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cases = _cases(tmp_path, 5, broken=(2,))
    output = tmp_path / "out"
    with caplog.at_level(logging.INFO, "medad_plugins"):
        table = _evaluate(cases, output, BrightnessNetwork())
    rows = _read(output)
    assert list(rows[0]) == [
        *("case_id", "image", "anomaly_score", "p_value", "is_anomalous", "alpha", "calibrated_on", "can_flag"),
        *("q_value", "is_discovery", "model_hash", "settings_hash"),
        *("input_mean", "input_spread", "input_size", "input_spacing", "label", "error"),
    ]
    assert [row["case_id"] for row in rows] == ["scan0", "scan1", "scan3", "scan4", "scan2"]
    assert [row["is_anomalous"] for row in rows[:4]] == ["False", "True", "True", "False"]
    assert [row["label"] for row in rows] == ["0", "1", "1", "0", "0"]
    assert rows[1]["image"] == cases[1]["image"]
    assert rows[4]["image"] == cases[2]["image"]
    assert float(rows[1]["p_value"]) == 1 / 41
    assert rows[4]["anomaly_score"] == ""
    assert cases[2]["image"] in rows[4]["error"]

    stored = json.loads((output / "results.json").read_text())
    assert stored == table.rows
    assert stored[1]["is_anomalous"] is True
    assert stored[1]["error"] is None
    assert stored[4]["anomaly_score"] is None
    message = f"4 cases: 2 anomalous at alpha 0.05, 1 could not be read; results in {output / 'results.csv'}"
    assert message in caplog.messages


def test_unlabelled_cases(tmp_path: Path) -> None:
    _evaluate(_cases(tmp_path, 3, label=False), tmp_path / "out", BrightnessNetwork())
    assert [row["label"] for row in _read(tmp_path / "out")] == ["", "", ""]


def test_what_was_computed_survives_a_crash(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        _evaluate(_cases(tmp_path, 6), tmp_path / "out", BrightnessNetwork(fails_at_call=3))
    assert [row["case_id"] for row in _read(tmp_path / "out")] == ["scan0", "scan1", "scan2", "scan3"]


def test_a_second_run_starts_a_new_table(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 4)
    _evaluate(cases, tmp_path / "out", BrightnessNetwork())
    _evaluate(cases[:2], tmp_path / "out", BrightnessNetwork())
    assert len(_read(tmp_path / "out")) == len(json.loads((tmp_path / "out" / "results.json").read_text())) == 2


def test_every_case_failing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none of the 2 cases could be read, the first because: .*scan0"):
        _evaluate(_cases(tmp_path, 2, broken=(0, 1)), tmp_path / "out", BrightnessNetwork())
    assert len(_read(tmp_path / "out")) == 2


def test_a_folder_that_cannot_be_written_fails_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    network = BrightnessNetwork()
    with pytest.raises(InputError, match="--output_dir"):
        _evaluate(_cases(tmp_path, 2), tmp_path / "out", network)
    assert network.calls == 0


def test_evaluation_leaves_the_table_alone(tmp_path: Path) -> None:
    cases = _cases(tmp_path, 4)
    _evaluate(cases, tmp_path / "alone", BrightnessNetwork())
    _evaluate(cases, tmp_path / "both", BrightnessNetwork(), report=True)
    assert _read(tmp_path / "alone") == _read(tmp_path / "both")
    assert (tmp_path / "both" / "evaluation.json").is_file()


def _infer_as_rank(rank: int, folder: str) -> None:
    cases = _cases(Path(folder), 5, broken=(1, 2))  # the same on both ranks
    idist.barrier()
    table = _evaluate(cases, Path(folder) / "out", BrightnessNetwork(), report=True)
    everyone = [*range(5)]
    assert sorted(int(row["case_id"][-1]) for row in table.rows) == everyone
    idist.barrier()


@pytest.mark.pictures
def test_two_ranks_write_one_table_and_one_report(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    meeting = f"file://{tmp_path}/meeting"  # the port that Ignite takes may be another run's
    idist.spawn("gloo", _infer_as_rank, (str(tmp_path / "two"),), nproc_per_node=2, init_method=meeting)
    _infer_as_rank(0, str(tmp_path / "one"))
    one, two = tmp_path / "one" / "out", tmp_path / "two" / "out"
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for name in ("results.csv", "results.json"):
        assert (two / name).read_text() == (one / name).read_text().replace(
            str(tmp_path / "one"), str(tmp_path / "two")
        )
    figures = [json.loads((out / "evaluation.json").read_text()) for out in (one, two)]
    assert figures[0]["n_normal"] == 2
    for name in figures[0].keys() - {"run"}:
        assert figures[1][name] == figures[0][name], name
    pictures = [(out / "report.html").read_text().count("data:image") for out in (one, two)]
    assert pictures[0] == pictures[1] > 0


def test_a_plain_loader_leaves_the_order_of_rows() -> None:
    assert in_list_order(["b", "a"], ["1", "0"], iter(())) == ["b", "a"]


def test_false_discoveries_are_controlled_over_a_work_list() -> None:
    """At most a share ``fdr`` of the discoveries is normal, on average over 1,000 lists with a reference each."""
    random, fdr, shares, found = np.random.RandomState(0), 0.1, [], []
    for _ in range(1000):
        references, normal, abnormal = random.randn(300), random.randn(80), 3 + random.randn(20)
        scores = np.concatenate([normal, abnormal])
        p_values = (1 + (references[None] >= scores[:, None]).sum(1)) / 301
        rows: list[dict[str, Any]] = [{"p_value": float(p_value)} for p_value in p_values]
        control_false_discoveries(rows, fdr)
        chosen = np.array([row["is_discovery"] for row in rows])
        shares.append(chosen[:80].sum() / max(1, chosen.sum()))
        found.append(chosen[80:].mean())
    # exact for independent p-values: fdr x share of normal cases
    assert 0.06 < np.mean(shares) <= fdr, np.mean(shares)
    assert np.mean(found) > 0.5, np.mean(found)


def test_discoveries_stand_in_the_table(tmp_path: Path) -> None:
    network = BrightnessNetwork()
    network.calibration.keep_references(torch.linspace(0.1, 0.49, 99))
    cases = _cases(tmp_path, 4, broken=(2,))
    preprocessing = ScanPreprocessing(ScanFormat(2, image_size=16))
    loader = FaultTolerantLoader(cases, preprocessing, batch_size=2)
    evaluator = CaseEvaluator(
        device=torch.device("cpu"),
        val_data_loader=loader,
        network=network,
        postprocessing=AnomalyPostprocessing(preprocessing, network),
        val_handlers=[ResultsTable(tmp_path / "out", loader, fdr=0.1)],
    )
    evaluator.run()
    rows = {row["case_id"]: row for row in _read(tmp_path / "out")}
    assert [rows[f"scan{n}"]["is_discovery"] for n in range(4)] == ["False", "True", "", "True"]
    assert float(rows["scan1"]["q_value"]) == pytest.approx(0.01 * 3 / 2) and rows["scan2"]["q_value"] == ""
    assert rows["scan0"]["input_size"] == "10x12"
    with pytest.raises(InputError, match=r"fdr is out of range.*--fdr"):
        ResultsTable(tmp_path, loader, fdr=2)

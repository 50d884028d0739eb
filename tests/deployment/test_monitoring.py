"""What the results of weeks say."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medad_plugins.deployment import Reference, read_results, watch
from medad_plugins.deployment.monitor_page import verdicts, write_monitor_page
from medad_plugins.errors import InputError
from medad_plugins.files import write_csv
from medad_plugins.handlers.results import COLUMNS
from medad_plugins.scorers import Calibration

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "monitor.py"))


def _model(path: Path, count: int = 300) -> Path:
    calibration, random = Calibration(), np.random.RandomState(99)
    inputs = torch.from_numpy(0.4 + 0.02 * random.randn(count, 2))
    calibration.fit(torch.from_numpy(random.randn(count)), torch.rand(9), inputs)
    state = {f"calibration.{name}": value for name, value in calibration.state_dict().items()}
    torch.save({"model": state, "bundle": "padim", "settings": {}}, path)
    return path


def _week(folder: Path, seed: int, count: int = 60, shift: float = 0.0, gamma: float = 0.0, **columns: Any) -> Path:
    random, reference = np.random.RandomState(seed), np.random.RandomState(99).randn(300)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        score = shift + random.randn()
        p_value = (1 + int((reference >= score).sum())) / 301
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {
            "case_id": f"scan{number}",
            "image": "secret/path.nii",
            "alpha": 0.05,
        }
        row |= {"anomaly_score": score, "p_value": p_value, "is_anomalous": p_value <= 0.05, "label": 0}
        row |= {"input_mean": 0.4 + gamma + 0.02 * random.randn(), "input_spread": 0.4 + 0.02 * random.randn()}
        rows.append(row | {"model_hash": "abc", "settings_hash": "def", "input_size": "64x64"} | columns)
    rows.append(dict.fromkeys(COLUMNS, "") | {"case_id": "broken", "error": "unreadable"})
    folder.mkdir()
    write_csv(folder / "results.csv", [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    return folder


def test_quiet_weeks_make_no_alarm(tmp_path: Path) -> None:
    weeks = [read_results(_week(tmp_path / f"week{n}", n)) for n in range(3)]
    watched = watch(weeks, Reference.of_model(_model(tmp_path / "model.pt")))
    assert set(watched.alarms) == {"anomaly_score", "input_mean", "input_spread"} and watched.normal_only
    assert all(watched.alarm_at(name) is None and watched.alarm_at(name, 0.01) is None for name in watched.alarms)
    assert [period.watched for period in watched.periods] == [60] * 3 and weeks[0].unread == 1
    assert all(sentence.startswith("The ") for sentence in verdicts(watched))
    low, high = watched.periods[0].flagged[1:]
    assert low <= 0.05 <= high


@pytest.mark.parametrize(("change", "figure"), [({"shift": 1.5}, "anomaly_score"), ({"gamma": 0.04}, "input_mean")])
def test_a_changed_week_makes_one(tmp_path: Path, change: dict[str, Any], figure: str) -> None:
    weeks = [_week(tmp_path / "before", 0), _week(tmp_path / "after", 1, **change)]
    watched = watch([read_results(week) for week in weeks], Reference.of_model(_model(tmp_path / "model.pt")))
    at = watched.alarm_at(figure)
    assert at is not None and 60 < at <= 100, at
    others = [name for name in watched.alarms if name != figure]
    assert all(watched.alarm_at(name) is None for name in others)
    assert any("ALARM" in sentence and "(after)" in sentence for sentence in verdicts(watched))
    assert watched.periods[1].differences[figure] < 1e-6 < 0.001 < watched.periods[0].differences[figure]


def test_abnormal_scans_are_no_drift_where_they_are_known(tmp_path: Path) -> None:
    sick = read_results(_week(tmp_path / "sick", 1, shift=4.0, label=1))
    week, reference = read_results(_week(tmp_path / "week", 0)), Reference.of_model(_model(tmp_path / "model.pt"))
    watched = watch([week, sick], reference)
    assert watched.alarm_at("anomaly_score") is None and [period.watched for period in watched.periods] == [60, 0]
    with pytest.raises(InputError, match="no scan to watch"):
        watch([sick], reference)


def test_without_labels_the_first_period_is_what_to_compare_with(tmp_path: Path) -> None:
    weeks = [read_results(_week(tmp_path / f"week{n}", n, shift=2.0, label="")) for n in range(2)]
    assert watch(weeks).alarm_at("anomaly_score") is None
    against_model = watch(weeks, Reference.of_model(_model(tmp_path / "model.pt")))
    assert against_model.alarm_at("anomaly_score") is not None
    assert any("No scan has a label" in remark for remark in against_model.remarks)
    with pytest.raises(InputError, match=r"nothing to compare with.*--model"):
        watch(weeks[:1])


def test_the_page_tells_the_models_apart_and_nothing_of_a_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weeks = [_week(tmp_path / "one", 0), _week(tmp_path / "two", 1, shift=2.0, model_hash="xyz")]
    page = tmp_path / "monitor.html"
    with pytest.raises(SystemExit) as stopped:
        TOOL["main"](*map(str, weeks), model=str(_model(tmp_path / "model.pt")), output_file=str(page))
    assert stopped.value.code == 3
    assert "ALARM: the anomaly score" in capsys.readouterr().out
    text = page.read_text("utf-8")
    assert "2 different models: abc, xyz" in text and "64x64 (60)" in text and "broken" in text
    assert "secret" not in text and "scan3" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    for name, content, match in (
        ("missing.csv", None, "there is no table of results"),
        ("other.csv", "a,b\n1,2\n", "this is no table of results"),
        ("empty.csv", "anomaly_score,p_value,is_anomalous,alpha\n,,,\n", "no scan of the table has a score"),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=match):
            read_results(tmp_path / name)
    with pytest.raises(InputError, match="no trained model"):
        Reference.of_model(tmp_path / "none.pt")
    with pytest.raises(InputError, match="nothing to watch"):
        TOOL["main"]()


def test_a_page_of_periods_without_a_watched_scan(tmp_path: Path) -> None:
    weeks = [read_results(_week(tmp_path / "week", 0)), read_results(_week(tmp_path / "sick", 1, label=1))]
    watched = watch(weeks, Reference.of_model(_model(tmp_path / "model.pt")))
    write_monitor_page(tmp_path / "page.html", watched)
    assert "sick" in (tmp_path / "page.html").read_text("utf-8")

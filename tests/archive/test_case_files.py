"""What is noted of the finished cases of an archive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medad_plugins.archive import CaseFiles
from medad_plugins.errors import InputError

CASE = {"image": "/scans/a.png", "case_id": "a"}


def _row(error: str | None = None) -> dict[str, Any]:
    return {"case_id": "a", "image": CASE["image"], "anomaly_score": 0.5, "error": error}


def test_a_case_is_done_once_it_has_a_result(tmp_path: Path) -> None:
    files = CaseFiles(tmp_path)
    assert files.read(CASE) is None and not files.is_done(CASE)
    files.write(CASE, _row())
    files.write(CASE, _row())
    assert files.read(CASE) == _row() and CaseFiles(tmp_path).is_done(CASE)
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["a.json"]


def test_an_unreadable_case_and_another_scan_of_the_name_are_tried_again(tmp_path: Path) -> None:
    files = CaseFiles(tmp_path)
    files.write(CASE, _row("the scan is bad."))
    assert files.read(CASE) == _row("the scan is bad.") and not files.is_done(CASE)
    files.write(CASE, _row())
    assert files.read({**CASE, "image": "/scans/other.png"}) is None


def test_attempts_are_counted_across_processes(tmp_path: Path) -> None:
    files = CaseFiles(tmp_path)
    assert files.attempts(CASE) == 0
    assert [files.begin(CASE), CaseFiles(tmp_path).begin(CASE)] == [1, 2]
    assert files.attempts(CASE) == 2
    files.forget_attempts([CASE])
    assert files.attempts(CASE) == 0


def test_results_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    files = CaseFiles(tmp_path)
    files.agree_on({"alpha": 0.05, "image_size": (32, 32)})
    files.agree_on({"alpha": 0.05, "image_size": (32, 32)})
    with pytest.raises(InputError, match=r"other settings: .*expected alpha 0.05, found alpha 0.1\).*--output_dir"):
        files.agree_on({"alpha": 0.1, "image_size": (32, 32)})
    assert json.loads((tmp_path / "archive.json").read_text())["alpha"] == 0.05

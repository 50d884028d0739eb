"""The tool that prepares a data set: its list of data sets, its flags, and that the audit comes last."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from medad_plugins.data import find_cases
from medad_plugins.data.adapters import ADAPTERS
from medad_plugins.errors import InputError

PATH = Path(__file__).resolve().parents[2] / "tools" / "prepare_dataset.py"
TOOL = runpy.run_path(str(PATH))


def br35h(root: Path, count: int = 4) -> Path:
    for name in ("yes", "no"):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (8, 8), 20 * number).save(root / name / f"{name}{number}.png")
    return root


def test_without_a_name_it_lists_every_data_set_and_where_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    TOOL["prepare_dataset"]()
    listed = capsys.readouterr().out
    for adapter in ADAPTERS.values():
        assert f"{adapter.name}: {adapter.title}" in listed
        assert adapter.download in listed and adapter.licence in listed
        assert all(f"--{option}" in listed for option in adapter.options)


def test_terms_come_first_and_the_audit_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    audited: list[tuple[Path, int]] = []
    monkeypatch.setitem(TOOL["prepare_dataset"].__globals__, "_audit_at_end", lambda *given: audited.append(given))
    source = br35h(tmp_path / "set")
    TOOL["prepare_dataset"]("Br35H", str(tmp_path), str(tmp_path / "out"), allow_partial="true")
    assert audited == [(tmp_path / "out", 2)]
    assert capsys.readouterr().out.startswith("Br35H. Terms: ")
    cases = find_cases(tmp_path / "out", split="all")
    assert cases and all(Path(case["image"]).parent.parent == source for case in cases)
    TOOL["prepare_dataset"]("br35h", str(tmp_path), str(tmp_path / "out2"), allow_partial=True, audit="false")
    assert len(audited) == 1


def test_a_flag_that_says_no_is_not_taken_for_yes(tmp_path: Path) -> None:
    br35h(tmp_path / "set")
    with pytest.raises(InputError, match="counts are not the published ones"):
        TOOL["prepare_dataset"]("br35h", str(tmp_path), str(tmp_path / "out"), allow_partial="false")
    with pytest.raises(InputError, match="--allow_partial .expected true or false, found perhaps"):
        TOOL["prepare_dataset"]("br35h", str(tmp_path), str(tmp_path / "out"), allow_partial="perhaps")
    with pytest.raises(InputError, match="--output"):
        TOOL["prepare_dataset"]("br35h", str(tmp_path))


def test_an_error_is_one_sentence_and_status_1(tmp_path: Path) -> None:
    command = [sys.executable, str(PATH), "rsna", "--source", str(tmp_path), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the source is not laid out as published") and "stage_2_train_images" in last
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()

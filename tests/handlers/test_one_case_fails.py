"""What one scan, one name or one full disk provokes after loading costs its own case only."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from medad_plugins import files
from medad_plugins.data import FaultTolerantLoader, ScanFormat, find_cases
from medad_plugins.engines import CaseEvaluator
from medad_plugins.errors import InputError
from medad_plugins.handlers import EvaluationReport, ResultsTable
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms import AnomalyPostprocessing, ScanPreprocessing

KINDS = ("map", "mask", "overlay")
Row = dict[str, str]


class Brightness(AnomalyNetwork):
    """Its map is the scan, but for a scan with a white corner: that one's is what ``odd`` makes of it."""

    def __init__(self, odd: Callable[[Tensor], Tensor] = lambda values: values) -> None:
        super().__init__()
        self.odd = odd
        references = torch.linspace(0.1, 0.49, 40)
        self.calibration.fit(references, references)

    def anomaly_map(self, image: Tensor) -> Tensor:
        values = image.mean(1, keepdim=True)
        marked = values[:, :, :1, :1] > 0.9
        return torch.where(marked, self.odd(values), values)


def _write(folder: Path, names: list[str], odd: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.random.RandomState(number).randint(20, 120, (12, 10)).astype(np.uint8)
        pixels[:2, :2] = 255 if name == odd else 20
        pixels[-1, -1] = 250
        Image.fromarray(pixels).save(os.fsencode(folder / name), format="PNG")
    return folder


def _infer(
    data: Path, output: Path, network: AnomalyNetwork | None = None, save: tuple[str, ...] = (), report: bool = False
) -> list[Row]:
    network = network or Brightness()
    preprocessing = ScanPreprocessing(ScanFormat(2, image_size=16))
    cases = find_cases(data, split="all")
    loader = FaultTolerantLoader(cases, preprocessing, batch_size=2)
    postprocessing = AnomalyPostprocessing(preprocessing, network, output_dir=output, save=save)
    handlers: list[Any] = [ResultsTable(output, loader)]
    if report:
        handlers.append(EvaluationReport(output, postprocessing))
    CaseEvaluator(torch.device("cpu"), loader, network, postprocessing=postprocessing, val_handlers=handlers).run()
    return read(output)


def read(output: Path) -> list[Row]:
    with (output / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def left_in(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "nan": lambda values: values * torch.nan,
    "infinite": lambda values: values * torch.inf,
    "minus infinite": lambda values: values - torch.inf,
    "nan in one place": lambda values: values.index_fill(3, torch.tensor([5]), torch.nan),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_map_that_is_not_finite_is_one_row_with_the_reason(kind: str, tmp_path: Path) -> None:
    data = _write(tmp_path / "d", ["a.png", "b.png", "c.png", "d.png", "e.png"], odd="c.png")
    rows = _infer(data, tmp_path / "out", Brightness(ODD[kind]), save=("map",))
    assert [row["case_id"] for row in rows] == ["a", "b", "d", "e", "c"]
    assert [bool(row["anomaly_score"]) for row in rows] == [True] * 4 + [False]
    assert "the anomaly map is not finite: c" in rows[4]["error"]
    assert {path.name for path in (tmp_path / "out" / "maps").iterdir()} == {f"{name}.nii.gz" for name in "abde"}
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 5


def test_where_no_map_is_finite_the_run_says_so(tmp_path: Path) -> None:
    data = _write(tmp_path / "d", ["a.png"], odd="a.png")
    with pytest.raises(InputError, match="none of the 1 cases could be read, .*: the anomaly map is not"):
        _infer(data, tmp_path / "out", Brightness(ODD["nan"]))
    assert len(read(tmp_path / "out")) == 1


def test_what_nobody_has_foreseen_is_one_row_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, case: Any) -> Any:
        if case["case_id"] == "b":
            raise MemoryError
        return restore(self, case)

    from medad_plugins.transforms import RestoreScanGridd

    restore = RestoreScanGridd.__call__
    monkeypatch.setattr(RestoreScanGridd, "__call__", fail)
    rows = _infer(_write(tmp_path / "d", ["a.png", "b.png", "c.png"]), tmp_path / "out")
    assert [row["case_id"] for row in rows] == ["a", "c", "b"]
    assert "the result of the scan cannot be made" in rows[2]["error"]
    assert "MemoryError" in rows[2]["error"]


FAULTS = [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT]


def _fail_at(monkeypatch: pytest.MonkeyPatch, part: str, fault: int) -> None:
    """Let files whose path has this part not be put in their place."""
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if part in str(target):
            raise OSError(fault, os.strerror(fault))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("fault", FAULTS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_cannot_be_written_costs_the_case_that_file(
    kind: str, fault: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data, output = _write(tmp_path / "d", ["a.png", "b.png", "c.png"]), tmp_path / "out"
    _fail_at(monkeypatch, f"{kind}s/b.", fault)
    with caplog.at_level(logging.INFO, "medad_plugins"):
        rows = _infer(data, output, save=KINDS)
    assert [row["case_id"] for row in rows] == ["a", "b", "c"]
    assert all(float(row["anomaly_score"]) > 0 for row in rows)
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert os.strerror(fault) in rows[1]["error"]
    assert f"{kind}s/b." in rows[1]["error"]
    written = {f"maps/{n}.nii.gz" for n in "abc"} | {f"{k}s/{n}.png" for k in ("mask", "overlay") for n in "abc"}
    lost = f"{kind}s/b.{'nii.gz' if kind == 'map' else 'png'}"
    assert left_in(output) == (written - {lost}) | {"results.csv", "results.json"}
    assert any("files of 1 could not be written" in message for message in caplog.messages)


def test_where_all_files_fail_the_scores_are_there_and_the_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fail_at(monkeypatch, "maps/", errno.ENOSPC)
    with pytest.raises(InputError, match=r"of none of the 2 cases all files could be written.*No space left"):
        _infer(_write(tmp_path / "d", ["a.png", "b.png"]), tmp_path / "out", save=("map",))
    assert all(float(row["anomaly_score"]) > 0 and row["error"] for row in read(tmp_path / "out"))


def test_rows_wait_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    real, calls = files.append_text, list[int]()

    def once_full(path: Path, text: str) -> None:
        calls.append(text.count("\n"))
        if len(calls) == 1:
            raise InputError("the file cannot be written", where=path, found="No space left on device")
        real(path, text)

    monkeypatch.setattr("medad_plugins.handlers.results.append_text", once_full)
    rows = _infer(_write(tmp_path / "d", [f"{name}.png" for name in "abcde"]), tmp_path / "out")
    assert calls == [2, 4, 1]
    assert len(rows) == 5
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize("name", ["results.csv", "results.json"])
def test_a_table_that_cannot_be_written_is_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, output = _write(tmp_path / "d", ["a.png"]), tmp_path / "out"
    _infer(data, output)
    before = (output / "results.csv").read_text()
    _fail_at(monkeypatch, name, errno.ENOSPC)
    with pytest.raises(InputError, match=rf"{name} \(found No space left on device\); free some space"):
        _infer(data, output)
    assert (output / "results.csv").read_text() == before
    assert not [path for path in output.iterdir() if path.name.startswith(".")]


@pytest.mark.pictures
@pytest.mark.parametrize("name", ["evaluation.json", "scores.png", "report.html"])
def test_a_report_that_cannot_be_written_costs_no_other_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "d"
    for folder in ("train/normal", "test/normal", "test/lesion"):
        _write(data / folder, ["a.png", "b.png"])
    _fail_at(monkeypatch, name, errno.ENOSPC)
    with pytest.raises(InputError, match=rf"{name} \(found No space left on device\)"):
        _infer(data, tmp_path / "out", report=True)
    expected = {"evaluation.json", "results.csv", "results.json", "report.html"} - {name}
    assert left_in(tmp_path / "out") >= expected
    assert name not in left_in(tmp_path / "out")


NAMES = [
    *(b"M\xfcller_01", b"\xff\xfe", b"\x81\x40", b"a\xcc", b"z\xc3\xbc\xfc"),
    *("医院影像归档系统导出数据" * 3, "é" * 100, "e\u0301" * 60, "\U0001f9e0" * 55, "я" * 110),
    *("a" * 240, "with space", "a#b", "2023", "1e5", "True", "None", "a,b", "[x]", "@x", "$x", "%x", "~", "a;b"),
    *("-dash", "--", ".hidden"[1:], "a\nb", "a\tb", "'q'", '"q"', "a\\b", "a:b", "a*b?", "CON", "x.."),
]


def test_names_of_any_bytes_and_length(tmp_path: Path) -> None:
    names = [os.fsdecode(name) if isinstance(name, bytes) else name for name in NAMES]
    data, output = _write(tmp_path / "d", [f"{name}.png" for name in names]), tmp_path / "out"
    rows = _infer(data, output, save=("map",))
    assert len(rows) == len({row["case_id"] for row in rows}) == len(NAMES)
    assert not [row["error"] for row in rows if row["error"]]
    maps = {path.name for path in (output / "maps").iterdir()}
    assert maps == {f"{row['case_id']}.nii.gz" for row in rows}
    assert max(len(name.encode("utf-8")) for name in maps) <= 220
    assert {row["image"] for row in rows} >= {f"{data}/M\\xfcller_01.png", f"{data}/a#b.png"}
    assert len(json.loads((output / "results.json").read_text("utf-8"))) == len(NAMES)


def test_long_names_in_a_script_of_three_bytes_a_letter_below_folders(tmp_path: Path) -> None:
    deep = Path("d", "影像归档系统导出数据" * 4, "二零二三年第一季度" * 4, "患者编号零零一平扫加增强横断面")
    _write(tmp_path / deep, ["图像一.png", "图像二.png"])
    rows = _infer(_write(tmp_path / "d", ["ok.png"]), tmp_path / "out", save=KINDS)
    assert len(rows) == 3
    assert not any(row["error"] for row in rows)
    assert len(list((tmp_path / "out" / "maps").iterdir())) == 3


def test_an_output_folder_used_twice_shows_nothing_of_the_first_run_under_the_same_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    _infer(_write(tmp_path / "a", ["scan.png", "first.png"]), output, save=KINDS)
    second = _write(tmp_path / "b", ["scan.png", "third.png"])
    (second / "scan.png").write_bytes((second / "scan.png").read_bytes()[:40])
    (output / "results.rank3.csv").write_text("of a run of four processes that was killed")
    rows = {row["case_id"]: row for row in _infer(second, output, save=("map",))}
    assert rows["scan"]["error"]
    others = {"maps/first.nii.gz", "masks/first.png", "overlays/first.png"}
    assert left_in(output) == others | {"maps/third.nii.gz", "results.csv", "results.json"}
    assert any("also holds 3 files of cases that are not in this run" in message for message in caplog.messages)


def test_a_killed_second_run_leaves_nothing_of_the_first_that_it_would_have_replaced(tmp_path: Path) -> None:
    data, output = _write(tmp_path / "d", ["a.png", "b.png", "c.png"]), tmp_path / "out"
    _infer(data, output, save=KINDS)

    class Killed(KeyboardInterrupt):
        pass

    def kill(values: Tensor) -> Tensor:
        raise Killed

    with pytest.raises(Killed):
        _infer(
            _write(tmp_path / "d", ["a.png", "b.png", "c.png"], odd="c.png"), output, Brightness(kill), save=("map",)
        )
    assert left_in(output) <= {"maps/a.nii.gz", "maps/b.nii.gz", "results.csv"}
    assert len(_infer(data, output, save=KINDS)) == 3


def test_a_second_run_at_once_is_refused_and_leaves_the_first_alone(tmp_path: Path) -> None:
    from medad_plugins.claims import claim_folder

    data, output = _write(tmp_path / "d", ["a.png"]), tmp_path / "out"
    _infer(data, output, save=("map",))
    before = left_in(output)
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        claim_folder(output)
        os.write(tell, b"!")
        signal.pause()  # reading here might take the parent's byte
        os._exit(0)
    os.close(tell)  # or a child that failed would be waited for
    assert os.read(ready, 1) == b"!"
    try:
        with pytest.raises(InputError, match="another run is writing into this"):
            _infer(data, output, save=("map",))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert left_in(output) == before
    assert len(_infer(data, output)) == 1

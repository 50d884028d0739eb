"""The command line of the leak audit."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOOL = Path(__file__).resolve().parents[2] / "tools" / "audit_dataset.py"


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOOL), *arguments], capture_output=True, text=True, check=False)


def test_it_writes_the_report_and_the_grouped_list(tmp_path: Path) -> None:
    random = np.random.RandomState(0)
    rows = ["image,label,split"]
    for number in range(6):
        pixels = random.randint(0, 255, (40, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{number % 2},{'test' if number else 'train'}")
        if number == 0:
            Image.fromarray(pixels).save(tmp_path / "copy.bmp")
            rows.append("copy.bmp,0,test")
    (tmp_path / "datalist.csv").write_text("\n".join(rows), encoding="utf-8")
    out, grouped = tmp_path / "out", tmp_path / "grouped.csv"
    done = _run("--dataset_dir", str(tmp_path), "--output_dir", str(out), "--write_grouped", str(grouped))
    assert done.returncode == 0, done.stderr
    assert f"report in {out / 'audit.md'}" in done.stdout
    assert "1 of 3 (33.3 %) test normal cases have a copy in train normal" in done.stderr
    splits = [row.split(",")[3] for row in grouped.read_text(encoding="utf-8").splitlines()[1:3]]
    assert len(set(splits)) == 1


def test_what_is_wrong_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(TOOL), "--dataset_dir", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"^error: the data folder does not exist: [^\n]*$"):
        runpy.run_path(str(TOOL), run_name="__main__")

"""A folder is ranked by scans that judge each other: what is rare comes first, and every scan has a row."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_runs import BUNDLES_FOLDER
from monai.utils import set_determinism
from PIL import Image
from plain_resnet import varied_taps

from medad_plugins.archive import rank_archive
from medad_plugins.errors import InputError

MUSC = BUNDLES_FOLDER / "musc"
RARE = ("scan_03", "scan_11")


@pytest.fixture(autouse=True)
def process_settings() -> Iterator[None]:
    yield
    set_determinism(None)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    path = tmp_path_factory.mktemp("weights") / "resnet10.pth"
    torch.save(varied_taps("resnet10").state_dict(), path)
    return {"backbone": "resnet10", "weights": str(path), "image_size": 64, "device": "cpu", "neighbours": [1]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen scans that are much alike, two of them with a square of their own, and a file that is none."""
    folder = tmp_path_factory.mktemp("folder")
    generator = np.random.default_rng(0)
    base = generator.integers(40, 160, (64, 64))
    for index in range(16):
        pixels = base + generator.integers(0, 20, (64, 64))
        if f"scan_{index:02}" in RARE:
            pixels[8 * (index % 5) :, :][:24, 20:44] = 250 if index == 3 else 0
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"scan_{index:02}.png")
    (folder / "damaged.png").write_bytes(b"no image")
    return folder


def _rows(output: Path) -> list[dict[str, str]]:
    with (output / "ranking.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("references", [1000, 6])
def test_what_is_rare_comes_first(folder: Path, keys: dict[str, object], tmp_path: Path, references: int) -> None:
    told = rank_archive(folder, tmp_path, MUSC, shown=3, keys={**keys, "references": references, "batch_size": 5})
    rows = _rows(tmp_path)
    assert {row["case_id"] for row in rows[:2]} == set(RARE)
    assert [row["rank"] for row in rows] == [*map(str, range(1, 17)), ""]
    assert rows[-1]["case_id"] == "damaged" and rows[-1]["error"] and not rows[-1]["anomaly_score"]
    scores = [float(row["anomaly_score"]) for row in rows[:-1]]
    assert scores == sorted(scores, reverse=True) and scores[1] > 1.2 * scores[2]
    assert [str(row["case_id"]) for row in told] == [row["case_id"] for row in rows]
    page = (tmp_path / "ranking.html").read_text("utf-8")
    assert page.count("<article") == 3 and page.count('<img src="data:image/jpeg') == 9
    assert "Scans that could not be read: 1" in page and "most suspicious of 16" in page


def test_a_list_gives_its_labels_and_they_are_not_looked_at(
    folder: Path, keys: dict[str, object], tmp_path: Path
) -> None:
    scans = Path(shutil.copytree(folder, tmp_path / "scans"))
    names = [f"scan_{index:02}" for index in range(0, 12)]
    lines = ["image,label", *(f"{name}.png,{int(name not in RARE)}" for name in names)]
    (scans / "datalist.csv").write_text("\n".join(lines), encoding="utf-8")
    rank_archive(scans, tmp_path / "out", MUSC, shown=0, keys=keys)
    rows = _rows(tmp_path / "out")
    assert len(rows) == 12 and {row["case_id"] for row in rows[:2]} == set(RARE)
    assert {row["case_id"] for row in rows if row["label"] == "0"} == set(RARE)


def test_refusals(folder: Path, keys: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the bundle has no such key: --windows"):
        rank_archive(folder, tmp_path, MUSC, keys={"windows": 3})
    with pytest.raises(InputError, match="a folder is ranked by the bundle musc"):
        rank_archive(folder, tmp_path, BUNDLES_FOLDER / "knn", keys={"weights": "none", "device": "cpu"})
    with pytest.raises(InputError, match="this is not a bundle"):
        rank_archive(folder, tmp_path, tmp_path)
    (tmp_path / "one").mkdir()
    shutil.copy(folder / "scan_00.png", tmp_path / "one")
    with pytest.raises(InputError, match="scans are compared with each other"):
        rank_archive(tmp_path / "one", tmp_path / "out", MUSC, keys=keys)

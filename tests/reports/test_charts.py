"""Charts of an evaluation."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from medad_plugins.reports import contact_sheet, roc_chart, score_chart


def test_charts_are_pictures_with_something_in_them(tmp_path: Path) -> None:
    backend = matplotlib.get_backend()
    scores, labels = [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]
    roc_chart(tmp_path / "roc.png", scores, labels, (0.5, 1.0, 0.05))
    score_chart(tmp_path / "scores.png", scores, labels, 0.05, 0.5)
    for name in ("roc.png", "scores.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert min(pixels.shape) > 400
        assert 0.005 < (pixels < 200).mean() < 0.7
    assert matplotlib.get_backend() == backend
    assert sorted(path.name for path in tmp_path.iterdir()) == ["roc.png", "scores.png"]


@pytest.mark.parametrize(("scores", "labels"), [([0.5], [1]), ([0.5, 0.5], [0, 0]), ([-3.0, 1e6], [0, 1])])
def test_score_chart_of_odd_sets(tmp_path: Path, scores: list[float], labels: list[int]) -> None:
    score_chart(tmp_path / "scores.png", scores, labels, 0.05, None)
    assert (tmp_path / "scores.png").stat().st_size > 1000


def test_the_decision_line_shows(tmp_path: Path) -> None:
    score_chart(tmp_path / "without.png", [0.1, 0.9], [0, 1], 0.05, None)
    score_chart(tmp_path / "with.png", [0.1, 0.9], [0, 1], 0.05, 0.5)
    assert (tmp_path / "without.png").read_bytes() != (tmp_path / "with.png").read_bytes()


def test_contact_sheet_has_a_column_per_group(tmp_path: Path) -> None:
    colours = {"a": (255, 0, 0), "b": (0, 255, 0)}
    for name, colour in colours.items():
        Image.new("RGB", (320, 100), colour).save(tmp_path / f"{name}.png")
    groups = {"first": [tmp_path / "a.png"] * 2, "none of these": [], "second": [tmp_path / "b.png"]}
    assert contact_sheet(tmp_path / "sheet.png", groups)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    red, green = ((pixels == colour).all(axis=-1).nonzero() for colour in colours.values())
    assert red[0].size == 2 * green[0].size == 2 * 640 * 200
    assert red[1].max() < green[1].min()


def test_contact_sheet_without_pictures(tmp_path: Path) -> None:
    assert not contact_sheet(tmp_path / "sheet.png", {"first": []})
    assert list(tmp_path.iterdir()) == []

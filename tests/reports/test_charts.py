"""Charts of an evaluation."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from medad_plugins.metrics import binomial_interval
from medad_plugins.reports import contact_sheet, roc_chart, score_chart
from medad_plugins.reports.charts import (
    chart_svg,
    froc_figure,
    p_value_figure,
    precision_recall_figure,
    roc_figure,
    score_figure,
)


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


def _curve(figure: Figure, name: str) -> np.ndarray:
    """Points ``(n, 2)`` of the line whose legend begins with ``name``."""
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith(name)]
    return np.asarray(line.get_xydata(), dtype=float)


def _sample(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.RandomState(1)
    labels = np.arange(n) % 3 // 2
    return (random.rand(n) + 0.6 * labels).round(2), labels  # rounded: with ties


def test_the_area_of_the_drawn_precision_recall_steps_is_the_average_precision() -> None:
    scores, labels = _sample()
    figure = precision_recall_figure(scores.tolist(), labels.tolist(), (0.5, 0.6, 0.05))
    (line,) = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("average precision")]
    assert line.get_drawstyle() == "steps-post"
    sensitivity, precision = _curve(figure, "average precision").T
    # each point's precision holds until the next point, which lies to its left
    area = -np.sum(np.diff(sensitivity) * precision[:-1])
    assert area == pytest.approx(average_precision_score(labels, scores))
    assert f"{area:.3f}" in str(line.get_label())
    assert _curve(figure, "decision").tolist() == [[0.5, 0.6]]
    assert _curve(figure, "chance")[:, 1].tolist() == [pytest.approx(labels.mean())] * 2


def test_nothing_flagged_has_no_precision_to_mark() -> None:
    figure = precision_recall_figure([0.1, 0.2], [0, 1], (0.0, None, 0.05))
    assert not any(str(line.get_label()).startswith("decision") for line in figure.axes[0].lines)


def test_the_area_of_the_drawn_roc_curve_is_the_auroc() -> None:
    scores, labels = _sample()
    curve = _curve(roc_figure(scores.tolist(), labels.tolist(), (0.1, 0.5, 0.05)), "AUROC")
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(roc_auc_score(labels, scores))


@pytest.mark.parametrize("p_values", [[0.05, 0.2, 0.2, 0.61, 1.0], [0.5], [1.0] * 4, [0.01] * 4])
def test_observed_false_positive_rates_and_their_band(p_values: list[float]) -> None:
    figure = p_value_figure(p_values, alpha=0.1)
    nominal, observed = _curve(figure, "observed").T
    assert observed.tolist() == [pytest.approx(np.mean(np.array(p_values) <= alpha)) for alpha in nominal]
    assert {0.0, 0.1, 1.0, *p_values} == set(nominal.tolist())
    (band,) = figure.axes[0].collections
    corners = np.asarray(band.get_paths()[0].vertices)
    for alpha, rate in zip(nominal, observed, strict=True):
        interval = binomial_interval(round(rate * len(p_values)), len(p_values))
        assert interval is not None
        at_alpha = corners[corners[:, 0] == alpha][:, 1]
        for end in interval:
            assert np.abs(at_alpha - end).min() < 1e-9
    assert _curve(figure, "at alpha").tolist() == [[0.1, pytest.approx(np.mean(np.array(p_values) <= 0.1))]]


def test_froc_points_are_joined_in_the_order_of_their_thresholds() -> None:
    figure = froc_figure([4.0, 1.5, 2.0], [0.9, 0.6, 0.3], (2.0, 0.6))
    assert _curve(figure, "thresholds").tolist() == [[4.0, 0.9], [1.5, 0.6], [2.0, 0.3]]
    assert _curve(figure, "threshold of the mask").tolist() == [[2.0, 0.6]]
    assert len(froc_figure([1.0], [0.5], None).axes[0].lines) == 1


def test_a_chart_in_a_page_takes_its_colours_and_letters_from_the_page() -> None:
    scores, labels = _sample()
    before = dict(matplotlib.rcParams)
    for figure in (
        roc_figure(scores.tolist(), labels.tolist(), (0.1, 0.5, 0.05)),
        precision_recall_figure(scores.tolist(), labels.tolist(), (0.5, 0.6, 0.05)),
        score_figure(scores.tolist(), labels.tolist(), 0.05, 0.9),
        p_value_figure([0.2, 0.7], 0.05),
        froc_figure([1.0, 2.0], [0.5, 0.6], (1.0, 0.5)),
    ):
        svg = chart_svg(figure, 'a "chart" & more')
        element = ElementTree.fromstring(svg)
        assert element.attrib["role"] == "img"
        assert element.attrib["aria-label"] == 'a "chart" & more'
        assert "viewBox" in element.attrib
        assert not {"width", "height"} & set(element.attrib)  # the page's width decides
        assert not re.findall(r"#[0-9a-f]{6}\b", svg)
        assert not re.findall(r"<style|font-family|DejaVu|<metadata", svg)
        texts = element.findall(".//{http://www.w3.org/2000/svg}text")
        assert len(texts) > 8
        assert all("font-size" in text.attrib["style"] for text in texts)
    assert dict(matplotlib.rcParams) == before


def test_the_same_chart_is_the_same_file() -> None:
    first, second = (chart_svg(p_value_figure([0.2, 0.7], 0.05), "chart") for _ in range(2))
    assert first == second

"""Charts of an evaluation (matplotlib on its own Agg canvas, no global state) and a sheet of example cases."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import beta
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from medad_plugins.files import atomic_path

__all__ = [
    "chart_svg",
    "contact_sheet",
    "froc_figure",
    "p_value_figure",
    "precision_recall_figure",
    "roc_chart",
    "roc_figure",
    "score_chart",
    "score_figure",
]

# The page gives these colours a meaning of their own in a dark room, see `chart_svg`.
_NORMAL, _ABNORMAL, _LINE, _FAINT = "#3b7ea1", "#c83030", "#333333", "#bbbbbb"
_SVG_COLOURS = {_NORMAL: "normal", _ABNORMAL: "abnormal", _LINE: "ink", _FAINT: "faint"}
_SHEET_WIDTH, _SHEET_GAP, _SHEET_TITLE = 640, 12, 34


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[:].set_color(_LINE)
    axes.tick_params(colors=_LINE)
    axes.xaxis.label.set_color(_LINE)
    axes.yaxis.label.set_color(_LINE)
    return figure, axes


def _legend(axes: Axes, place: Literal["best", "lower left", "lower right"]) -> None:
    # without a box, which would not suit a dark page
    axes.legend(loc=place, frameon=False, labelcolor=_LINE, fontsize=9)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def chart_svg(figure: Figure, label: str) -> str:
    """A chart as an inline SVG element whose colours are those of the page, light or dark.

    Args:
        figure: a chart of this module.
        label: what it shows, for those who cannot see it.
    """
    buffer = io.StringIO()
    # text stays text; ids are the same in every run
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    # its style element would be the whole page's; size and font are the page's
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+px) [^;]*;", r"font-size: \1;", re.sub(r"font-family: [^;]*; ?", "", svg))
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
    for colour, name in _SVG_COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def roc_figure(scores: Sequence[float], labels: Sequence[int], decision: tuple[float, float, float]) -> Figure:
    """ROC curve with the point where the decision at alpha lies; both classes must be there.

    Args:
        scores, labels: per case.
        decision: observed false-positive rate and sensitivity, and the alpha they were observed at.
    """
    false_positive_rate, sensitivity, _ = roc_curve(labels, scores)
    area = roc_auc_score(labels, scores)
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle="--")
    axes.plot(false_positive_rate, sensitivity, color=_NORMAL, linewidth=2, label=f"AUROC {area:.3f}")
    axes.plot(*decision[:2], "o", color=_ABNORMAL, label=f"decision at alpha {decision[2]:g}")
    axes.set(xlabel="false-positive rate", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    _legend(axes, "lower right")
    return figure


def roc_chart(path: Path, scores: Sequence[float], labels: Sequence[int], decision: tuple[float, float, float]) -> None:
    """`roc_figure` as a PNG file."""
    _save(roc_figure(scores, labels, decision), path)


def precision_recall_figure(
    scores: Sequence[float], labels: Sequence[int], decision: tuple[float, float | None, float]
) -> Figure:
    """Precision-recall curve with the decision at alpha; both classes must be there.

    Args:
        scores, labels: per case.
        decision: observed sensitivity, precision (None where nothing was flagged), and the alpha they were observed at.
    """
    precision, sensitivity, _ = precision_recall_curve(labels, scores, drop_intermediate=True)
    average = average_precision_score(labels, scores)
    share = float(np.mean(labels))
    figure, axes = _axes()
    axes.axhline(
        share, color=_FAINT, linewidth=1, linestyle="--", label=f"chance (share of abnormal cases {share:.2f})"
    )
    axes.plot(
        sensitivity,
        precision,
        drawstyle="steps-post",
        color=_NORMAL,
        linewidth=2,
        label=f"average precision {average:.3f}",
    )
    if decision[1] is not None:
        axes.plot(decision[0], decision[1], "o", color=_ABNORMAL, label=f"decision at alpha {decision[2]:g}")
    axes.set(xlabel="sensitivity (recall)", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    _legend(axes, "lower left")
    return figure


def p_value_figure(p_values: Sequence[float], alpha: float) -> Figure:
    """Share of the normal cases that are flagged at every alpha, with its 95 % band (Clopper-Pearson, point by point).

    Args:
        p_values: of the normal cases, at least one.
        alpha: the decision level, marked.
    """
    values = np.sort(np.asarray(p_values, dtype=float))
    nominal = np.unique(np.concatenate(([0.0, 1.0, alpha], values)))
    flagged = np.searchsorted(values, nominal, side="right")
    low = beta.ppf(0.025, flagged, values.size - flagged + 1)
    high = beta.ppf(0.975, flagged + 1, values.size - flagged)
    low[flagged == 0], high[flagged == values.size] = 0.0, 1.0
    observed = flagged / values.size
    at_alpha = float(np.mean(values <= alpha))
    figure, axes = _axes()
    axes.fill_between(nominal, low, high, step="post", color=_NORMAL, alpha=0.2, linewidth=0, label="95 % interval")
    axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1, linestyle="--", label="as promised")
    axes.plot(
        nominal, observed, drawstyle="steps-post", color=_NORMAL, linewidth=2, label=f"observed (n = {values.size})"
    )
    axes.plot(alpha, at_alpha, "o", color=_ABNORMAL, label=f"at alpha {alpha:g}: {at_alpha:.3f}")
    axes.set(xlabel="alpha (promised at most)", ylabel="observed false-positive rate", aspect="equal")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _legend(axes, "lower right")
    return figure


def froc_figure(
    false_positives: Sequence[float], sensitivity: Sequence[float], decision: tuple[float, float] | None
) -> Figure:
    """Lesions found against false alarms per case (FROC), at the thresholds that were counted and in their order.

    The curve may turn back: marked regions fall apart or merge when the threshold moves.

    Args:
        false_positives: per case, at each threshold.
        sensitivity: share of the lesions that are found, at each threshold.
        decision: false positives per case and lesion sensitivity at the mask's threshold.
    """
    figure, axes = _axes()
    axes.plot(
        np.asarray(false_positives, dtype=float),
        np.asarray(sensitivity, dtype=float),
        "o-",
        color=_NORMAL,
        linewidth=2,
        markersize=3.5,
        label="thresholds counted",
    )
    if decision is not None:
        axes.plot(*decision, "o", color=_ABNORMAL, label="threshold of the mask")
    axes.set(xlabel="false positives per case", ylabel="lesion sensitivity", ylim=(-0.02, 1.02))
    axes.set_xlim(left=0)
    axes.margins(x=0.03)
    _legend(axes, "best")
    return figure


def score_figure(scores: Sequence[float], labels: Sequence[int], alpha: float, decision_score: float | None) -> Figure:
    """Histogram of the scores of normal and abnormal cases, with the score at which the decision changes.

    Args:
        scores, labels: per case.
        alpha: decision level, for the legend.
        decision_score: where the decision changes; None where the cases do not determine it.
    """
    values, truth = np.asarray(scores, dtype=float), np.asarray(labels)
    figure, axes = _axes()
    edges = np.histogram_bin_edges(values, bins=min(40, max(8, int(np.sqrt(values.size) * 2)))).tolist()
    for label, name, colour in ((0, "normal", _NORMAL), (1, "abnormal", _ABNORMAL)):
        chosen = values[truth == label]
        if chosen.size:
            # a share of its class, so that a rare class is seen beside a frequent one
            weights = np.full(chosen.size, 1 / chosen.size)
            axes.hist(chosen, edges, weights=weights, color=colour, alpha=0.6, label=f"{name} (n = {chosen.size})")
    if decision_score is not None:
        axes.axvline(decision_score, color=_LINE, linestyle="--", linewidth=1.2, label=f"flagged at alpha {alpha:g}")
    axes.set(xlabel="anomaly score", ylabel="share of the class")
    _legend(axes, "best")
    return figure


def score_chart(
    path: Path, scores: Sequence[float], labels: Sequence[int], alpha: float, decision_score: float | None
) -> None:
    """`score_figure` as a PNG file."""
    _save(score_figure(scores, labels, alpha, decision_score), path)


def contact_sheet(path: Path, groups: Mapping[str, Sequence[Path]]) -> bool:
    """One picture with a column per group of overlay pictures under its name; False where there is none to show.

    Args:
        path: PNG file to write.
        groups: title to picture files; a group without files is left out.
    """
    columns = {title: files for title, files in groups.items() if files}
    if not columns:
        return False
    font = ImageFont.load_default(size=18)
    sheets = []
    for title, files in columns.items():
        pictures = []
        for file in files:
            with Image.open(file) as overlay:
                height = round(overlay.height * _SHEET_WIDTH / overlay.width)
                pictures.append(overlay.convert("RGB").resize((_SHEET_WIDTH, height), Image.Resampling.LANCZOS))
        total = _SHEET_TITLE + sum(picture.height + _SHEET_GAP for picture in pictures)
        column = Image.new("RGB", (_SHEET_WIDTH, total), "white")
        ImageDraw.Draw(column).text((2, _SHEET_TITLE // 2), title, "#202020", font=font, anchor="lm")
        top = _SHEET_TITLE
        for picture in pictures:
            column.paste(picture, (0, top))
            top += picture.height + _SHEET_GAP
        sheets.append(column)
    width = sum(column.width + _SHEET_GAP for column in sheets) + _SHEET_GAP
    sheet = Image.new("RGB", (width, max(column.height for column in sheets) + _SHEET_GAP), "white")
    for index, column in enumerate(sheets):
        sheet.paste(column, (_SHEET_GAP + index * (_SHEET_WIDTH + _SHEET_GAP), 0))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")
    return True

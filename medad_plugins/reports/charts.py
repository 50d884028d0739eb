"""Charts of an evaluation (matplotlib on its own Agg canvas, no global state) and a sheet of example cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics import roc_auc_score, roc_curve

from medad_plugins.files import atomic_path

__all__ = ["contact_sheet", "roc_chart", "score_chart"]

_NORMAL, _ABNORMAL, _LINE = "#3b7ea1", "#c83030", "#333333"
_SHEET_WIDTH, _SHEET_GAP, _SHEET_TITLE = 640, 12, 34


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def roc_chart(path: Path, scores: Sequence[float], labels: Sequence[int], decision: tuple[float, float, float]) -> None:
    """ROC curve with the point where the decision at alpha lies; both classes must be there.

    Args:
        path: PNG file to write.
        scores, labels: per case.
        decision: observed false-positive rate and sensitivity, and the alpha they were observed at.
    """
    false_positive_rate, sensitivity, _ = roc_curve(labels, scores)
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle="--")
    axes.plot(
        false_positive_rate,
        sensitivity,
        color=_NORMAL,
        linewidth=2,
        label=f"AUROC {roc_auc_score(labels, scores):.3f}",
    )
    axes.plot(*decision[:2], "o", color=_ABNORMAL, label=f"decision at alpha {decision[2]:g}")
    axes.set(xlabel="false-positive rate", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.legend(loc="lower right", frameon=False)
    _save(figure, path)


def score_chart(
    path: Path, scores: Sequence[float], labels: Sequence[int], alpha: float, decision_score: float | None
) -> None:
    """Histogram of the scores of normal and abnormal cases, with the score at which the decision changes.

    Args:
        path: PNG file to write.
        scores, labels: per case.
        alpha: decision level, for the legend.
        decision_score: where the decision changes; None where the cases do not tell.
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
    axes.legend(frameon=False)
    _save(figure, path)


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

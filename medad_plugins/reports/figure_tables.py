"""The figures of an evaluation as tables: plain names, intervals, and a sentence on what each figure is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from medad_plugins.reports.page_skeleton import Html, interval_text, number_text, table_html

__all__ = ["figure_groups_html", "lesion_sizes_html", "tiles_html", "whisker_svg"]

_WHISKER = (92, 12)  # width and height


@dataclass(frozen=True)
class _Group:
    """Rows of the table under one heading: key, name, what it is."""

    title: str
    rows: tuple[tuple[str, str, str], ...]
    is_bound: bool = False


_RANKING = _Group(
    "Ranking of the cases (no threshold)",
    (
        ("auroc", "AUROC", "chance that an abnormal case scores higher than a normal one; 0.5 is guessing"),
        (
            "average_precision",
            "Average precision",
            "area under the precision-recall curve; guessing gives the share of abnormal cases, {share}",
        ),
    ),
)
_DECISION = (
    ("sensitivity", "Sensitivity", "share of the abnormal cases that were flagged"),
    ("specificity", "Specificity", "share of the normal cases that were not flagged"),
    ("precision", "Precision", "share of the flagged cases that are abnormal; changes with the mix of cases"),
    ("accuracy", "Accuracy", "share of right decisions; changes with the mix of cases"),
    ("f1", "F1", "harmonic mean of sensitivity and precision"),
)
_CONFORMAL = _Group(
    "Decision at alpha {alpha} (set by held-out normal cases alone)",
    (
        (
            "false_positive_rate",
            "False-positive rate",
            "share of the normal cases that were flagged; promised at most {alpha}",
        ),
        *_DECISION,
    ),
)
_VALIDATION = _Group(
    "Decision at the best F1 of labelled validation cases (score above {validation_f1_threshold})",
    tuple((f"validation_f1_{key}", name, what) for key, name, what in _DECISION),
)
_PIXELS = _Group(
    "Where the lesion is (abnormal cases with an outline: {n_masked}, lesions: {n_lesions})",
    (
        ("pixel_auroc", "Pixel AUROC", "as above, over pixels; high with ease where lesions are small"),
        ("pixel_ap", "Pixel average precision", "over all pixels of the normal and the outlined cases"),
        (
            "aupro",
            "AUPRO",
            "mean overlap with each lesion, up to a false-positive rate of {aupro_limit}, scaled to 0..1",
        ),
        (
            "dice_case_mean",
            "Dice, mean of the cases",
            "overlap of outline and what the mask rule marks, flagged or not, per case",
        ),
        ("dice_pooled", "Dice, pooled", "the same over the pixels of all cases together; large lesions weigh more"),
        ("iou_case_mean", "IoU, mean of the cases", "intersection over union, likewise"),
        ("iou_pooled", "IoU, pooled", "the same over the pixels of all cases together"),
        ("lesion_sensitivity", "Lesion sensitivity", "share of the lesions that the mask touches"),
        (
            "false_positives_per_case",
            "False positives per case",
            "marked regions without a lesion, normal cases counted",
        ),
        ("false_positives_per_normal_case", "False positives per normal case", "marked regions in normal cases"),
        ("marked_share_of_normal_case", "Area marked in normal cases", "by the mask rule, flagged or not; mean share"),
        ("dice_share_of_best", "Dice, share of its bound", "mean of the cases over the highest pooled Dice"),
    ),
)
_BOUNDS = _Group(
    "Upper bounds: thresholds chosen on these very cases, not results",
    (
        ("f1_max", "Highest F1", "of any threshold, here a score of {f1_max_threshold}"),
        ("best_dice_pooled", "Highest pooled Dice", "of any threshold; what an oracle would choose"),
    ),
    is_bound=True,
)
# figures beyond 0..1
_COUNTED = ("false_positives_per_case", "false_positives_per_normal_case", "dice_share_of_best")

_TILES = (
    ("auroc", "AUROC", "ranking of normal and abnormal cases"),
    ("sensitivity", "Sensitivity", "at alpha {alpha}"),
    ("false_positive_rate", "False-positive rate", "at alpha {alpha}, promised at most {alpha}"),
    ("average_precision", "Average precision", "guessing gives {share}"),
    ("dice_case_mean", "Dice", "mean of {n_masked} outlined cases"),
    ("aupro", "AUPRO", "up to a false-positive rate of {aupro_limit}"),
)


def whisker_svg(value: float, interval: Sequence[float] | None) -> Html:
    """A value between 0 and 1 and its interval on a line from 0 to 1; decoration of the numbers beside it."""
    width, height = _WHISKER
    reach, middle = width - 8, height / 2

    def place(share: float) -> str:
        return f"{4 + reach * min(max(share, 0.0), 1.0):.1f}"

    bar = ""
    if interval:
        bar = f'<line x1="{place(interval[0])}" x2="{place(interval[1])}" y1="{middle}" y2="{middle}"/>'
    return Html(
        f'<svg class="whisker" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<line class="axis" x1="4" x2="{width - 4}" y1="{middle}" y2="{middle}"/>{bar}'
        f'<circle cx="{place(value)}" cy="{middle}" r="3.5"/></svg>'
    )


def _words(figures: Mapping[str, Any]) -> dict[str, str]:
    """What the sentences quote."""
    total = (figures.get("n_normal") or 0) + (figures.get("n_abnormal") or 0)
    words = {
        key: f"{figures[key]:.4g}"
        for key in ("alpha", "aupro_limit", "f1_max_threshold", "validation_f1_threshold")
        if figures.get(key) is not None
    }
    words["share"] = f"{(figures.get('n_abnormal') or 0) / total:.2f}" if total else number_text(None)
    words.update({key: number_text(figures.get(key)) for key in ("n_masked", "n_lesions")})
    return words


class _Quoting(dict[str, str]):
    """Words by name; a dash for what is not there."""

    def __missing__(self, key: str) -> str:
        return number_text(None)


def tiles_html(figures: Mapping[str, Any]) -> str:
    """The headline figures with their intervals, never an upper bound; what is missing is left out."""
    words = _Quoting(_words(figures))
    tiles = []
    for key, name, what in _TILES:
        if figures.get(key) is None:
            continue
        interval = interval_text(figures.get(f"{key}_95ci"))
        below = f"<span>95 % interval {interval}</span>" if interval else ""
        tiles.append(
            f'<div class="tile"><span>{name}</span><b>{number_text(figures[key])}</b>{below}'
            f"<span>{escape(what.format_map(words))}</span></div>"
        )
    # rows of equal length
    columns = len(tiles) if len(tiles) <= 4 else 3
    return f'<div class="tiles" style="--columns:{columns}">{"".join(tiles)}</div>\n'


def figure_groups_html(figures: Mapping[str, Any]) -> str:
    """All figures in groups, with their intervals and what they are; the upper bounds last and marked."""
    words = _Quoting(_words(figures))
    bodies = []
    for group in (_RANKING, _CONFORMAL, _VALIDATION, _PIXELS, _BOUNDS):
        rows = [
            _figure_row(figures, row, words, group.is_bound) for row in group.rows if figures.get(row[0]) is not None
        ]
        if rows:
            title = escape(group.title.format_map(words))
            head = f'<tr class="group"><th scope="rowgroup" colspan="4">{title}</th></tr>'
            bodies.append(f"<tbody>{head}\n" + "\n".join(rows) + "</tbody>")
    heads = '<th scope="col">figure</th><th scope="col" class="number">value</th><th scope="col">95 % interval</th>'
    return (
        '<div class="wide"><table class="figures">'
        f'<thead><tr>{heads}<th scope="col">what it is</th></tr></thead>\n{"".join(bodies)}</table></div>\n'
    )


def _figure_row(figures: Mapping[str, Any], row: tuple[str, str, str], words: Mapping[str, str], bound: bool) -> str:
    key, name, what = row
    value, interval = float(figures[key]), figures.get(f"{key}_95ci")
    drawn = "" if key in _COUNTED else whisker_svg(value, interval)
    style = ' class="bound"' if bound else ""
    return (
        f'<tr{style}><th scope="row">{name}</th><td class="number">{number_text(value)}</td>'
        f'<td class="interval"><span>{interval_text(interval)}</span>{drawn}</td>'
        f'<td class="what">{escape(what.format_map(words))}</td></tr>'
    )


def lesion_sizes_html(sizes: Sequence[Mapping[str, Any]]) -> str:
    """A row per range of lesion sizes; a column per figure that any of them has."""
    names = [(key, name) for key, name, _ in _PIXELS.rows if any(size.get(key) is not None for size in sizes)]
    bound = any(size.get("best_dice_pooled") is not None for size in sizes)
    columns = [
        "pixels or voxels",
        "lesions",
        *(name for _, name in names),
        *(["Highest pooled Dice (bound)"] if bound else []),
    ]
    rows = []
    for size in sizes:
        keys = [key for key, _ in names] + (["best_dice_pooled"] if bound else [])
        rows.append(
            [
                Html(f'<span class="line">{_size_range(size)}</span>'),
                size.get("n_lesions"),
                *(_with_interval(size, key) for key in keys),
            ]
        )
    return table_html(columns, rows, caption="With 95 % intervals where there are any")


def _size_range(size: Mapping[str, Any]) -> str:
    low, high = size.get("from") or 0, size.get("to")
    if high is None:
        return f"{low:g} and more"
    return f"below {high:g}" if low <= 1 else f"{low:g} to {high:g}"


def _with_interval(size: Mapping[str, Any], key: str) -> Html:
    interval = interval_text(size.get(f"{key}_95ci"))
    below = f'<br><small class="soft line">{interval}</small>' if interval else ""
    return Html(number_text(size.get(key)) + below)

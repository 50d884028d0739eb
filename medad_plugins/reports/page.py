"""The report page of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

from sklearn.metrics import roc_auc_score

from medad_plugins.files import output_folder, write_text
from medad_plugins.metrics import binomial_interval
from medad_plugins.reports.charts import (
    chart_svg,
    froc_figure,
    p_value_figure,
    precision_recall_figure,
    roc_figure,
    score_figure,
)
from medad_plugins.reports.figure_tables import figure_groups_html, lesion_sizes_html, tiles_html, whisker_svg
from medad_plugins.reports.gallery import Example
from medad_plugins.reports.page_gallery import gallery_html
from medad_plugins.reports.page_skeleton import Html, definitions_html, html_page, interval_text, table_html

__all__ = ["ScoredCase", "decision_score", "write_evaluation_page"]

_MOST_ROWS = 5000  # of the table of cases: a browser sorts these at once
_FEW = 50  # cases of a class below which the page warns


class ScoredCase(Protocol):
    """What the page needs of a case; label 0 normal, 1 abnormal, ``class_name`` empty where there is none."""

    @property
    def case_id(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def p_value(self) -> float: ...
    @property
    def flagged(self) -> bool: ...
    @property
    def class_name(self) -> str: ...


def decision_score(cases: Sequence[ScoredCase]) -> float | None:
    """Score at which the decision changes, halfway between the cases; None where all were decided alike."""
    flagged = [case.score for case in cases if case.flagged]
    passed = [case.score for case in cases if not case.flagged]
    return (min(flagged) + max(passed)) / 2 if flagged and passed else None


def write_evaluation_page(
    path: str | os.PathLike[str],
    *,
    title: str,
    figures: Mapping[str, Any],
    cases: Sequence[ScoredCase],
    alpha: float,
    examples: Sequence[Example],
    details: Mapping[str, str],
) -> None:
    """Write one HTML file with tables, charts and pictures that needs no network.

    Args:
        path: the file.
        title: what was evaluated on what.
        figures: of `detection_summary` and the localization metric; any may be missing or None.
        cases: all scored cases.
        alpha: level of the decision.
        examples: of a `Gallery`, in its order.
        details: what somebody needs to get the same figures again: name to text.

    Raises:
        InputError: the folder cannot be written or is full.
    """
    figures = {"alpha": alpha, **figures}
    classes = {case.case_id: case.class_name for case in cases if case.class_name}
    gallery = gallery_html(examples, classes)
    sections = [
        ("figures", "All figures", figure_groups_html(figures) + _sizes(figures) + _class_table(cases)),
        ("charts", "Charts", _charts(figures, cases, alpha)),
        ("examples", "Cases to look at", gallery),
        ("cases", "All cases", _case_table(cases)),
        ("details", "How to get these figures again", _details(details)),
    ]
    filled = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in filled)
    head = (
        f'<h1>{escape(title)}</h1>\n<p class="soft">{_counts(cases)}</p>\n<nav aria-label="sections">{links}</nav>\n'
        f'<p class="verdict">{_verdict(cases, alpha)}</p>\n{tiles_html(figures)}{_notes(figures, cases, alpha)}'
    )
    body = head + "".join(
        f'<section id="{name}"><h2>{heading}</h2>\n{content}</section>\n' for name, heading, content in filled
    )
    footer = "<footer>Written by MedAD. For research; not a medical device, not for diagnosis.</footer>"
    output_folder(Path(path).parent)
    write_text(path, html_page(title, body + footer))


def _of(cases: Sequence[ScoredCase], label: int) -> list[ScoredCase]:
    return [case for case in cases if case.label == label]


def _counts(cases: Sequence[ScoredCase]) -> str:
    return f"{len(_of(cases, 0))} normal and {len(_of(cases, 1))} abnormal cases"


def _verdict(cases: Sequence[ScoredCase], alpha: float) -> str:
    """What was flagged, in words."""
    parts = []
    for label, name in ((1, "abnormal"), (0, "normal")):
        chosen = _of(cases, label)
        if chosen:
            flagged = sum(case.flagged for case in chosen)
            parts.append(f"<b>{flagged} of {len(chosen)}</b> {name} cases ({100 * flagged / len(chosen):.0f} %)")
    return f"At alpha {alpha:g} the detector flagged {' and '.join(parts)}."


def _notes(figures: Mapping[str, Any], cases: Sequence[ScoredCase], alpha: float) -> str:
    """What a reader must know before believing the figures."""
    notes = []
    if not figures.get("can_flag", True):
        notes.append(
            f"Nothing can be flagged at alpha {alpha:g}: the detector is calibrated on {figures['calibrated_on']}"
            " normal cases, which is too few. Hold out more, or take a higher alpha."
        )
    observed = figures.get("false_positive_rate_95ci")
    if observed and observed[0] > alpha:
        notes.append(
            f"More normal cases are flagged than alpha {alpha:g} promises, beyond chance: they differ from the held-out"
            " normal cases that set the threshold (another scanner, protocol or population?)."
        )
    ranking = figures.get("auroc_95ci")
    if ranking and ranking[0] <= 0.5 <= ranking[1]:
        notes.append("The interval of the AUROC includes 0.5: these cases do not show that it is better than guessing.")
    sizes = {name: len(_of(cases, label)) for label, name in ((0, "normal"), (1, "abnormal"))}
    missing = [name for name, size in sizes.items() if size == 0]
    if missing:
        notes.append(f"There is no {missing[0]} case, so there is no curve and no ranking.")
    elif min(sizes.values()) < _FEW:
        notes.append(f"Fewer than {_FEW} cases of a class: read the intervals rather than the figures.")
    return "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes)


def _sizes(figures: Mapping[str, Any]) -> str:
    sizes = figures.get("by_lesion_size")
    return f"<h3>By size of the lesion</h3>\n{lesion_sizes_html(sizes)}" if sizes else ""


def _class_table(cases: Sequence[ScoredCase]) -> str:
    """How well each class is separated from the normal cases, and its share flagged; empty for one abnormal class."""
    groups: dict[tuple[int, str], list[ScoredCase]] = {}
    for case in cases:
        groups.setdefault((case.label, case.class_name), []).append(case)
    if sum(label == 1 for label, _ in groups) < 2:
        return ""
    rows: list[list[object]] = []
    normal = _of(cases, 0)
    for (label, name), chosen in sorted(groups.items()):
        flagged = sum(case.flagged for case in chosen)
        interval, share = binomial_interval(flagged, len(chosen)), flagged / len(chosen)
        shown = Html(f'<span class="line">{interval_text(interval)}{whisker_svg(share, interval)}</span>')
        truth = "abnormal" if label else "normal"
        against = _auroc(normal, chosen) if label and normal else None
        rows.append([name or truth, truth, len(chosen), against, flagged, share, shown])
    columns = ["class", "truth", "cases", "AUROC against all normal", "flagged", "share flagged", "95 % interval"]
    return "<h3>By class</h3>\n" + table_html(columns, rows, caption="Decisions by class (Clopper-Pearson intervals)")


def _auroc(normal: Sequence[ScoredCase], abnormal: Sequence[ScoredCase]) -> float:
    labels = [0] * len(normal) + [1] * len(abnormal)
    return float(roc_auc_score(labels, [case.score for case in (*normal, *abnormal)]))


def _charts(figures: Mapping[str, Any], cases: Sequence[ScoredCase], alpha: float) -> str:
    scores, labels = [case.score for case in cases], [case.label for case in cases]
    flagged = [bool(case.flagged) for case in cases]
    normal, abnormal = _of(cases, 0), _of(cases, 1)
    charts = []
    if normal and abnormal:
        sensitivity = sum(case.flagged for case in abnormal) / len(abnormal)
        false_positive_rate = sum(case.flagged for case in normal) / len(normal)
        precision = sum(case.flagged for case in abnormal) / sum(flagged) if any(flagged) else None
        charts += [
            _chart(
                "ROC curve",
                "Upper left is better; the dashed line is guessing.",
                chart_svg(
                    roc_figure(scores, labels, (false_positive_rate, sensitivity, alpha)),
                    f"ROC curve; at alpha {alpha:g} false-positive rate {false_positive_rate:.3f}, "
                    f"sensitivity {sensitivity:.3f}",
                ),
            ),
            _chart(
                "Precision and recall",
                "Upper right is better. The level of guessing is the share of abnormal cases in this set.",
                chart_svg(
                    precision_recall_figure(scores, labels, (sensitivity, precision, alpha)), "precision-recall curve"
                ),
            ),
        ]
    charts.append(
        _chart(
            "Scores",
            "Each class adds up to 1. What lies right of the dashed line was flagged.",
            chart_svg(
                score_figure(scores, labels, alpha, decision_score(cases)), "histogram of the scores of each class"
            ),
        )
    )
    if normal:
        charts.append(
            _chart(
                "Is the promise kept?",
                "Share of the normal cases flagged at every alpha. Below the dashed line fewer are flagged than "
                "promised; a band wholly above it means false alarms beyond the promise.",
                chart_svg(
                    p_value_figure([case.p_value for case in normal], alpha),
                    "observed against promised false-positive rate, with a 95 % band",
                ),
            )
        )
    return f'<div class="charts">{"".join(charts)}{_froc(figures)}</div>\n'


def _froc(figures: Mapping[str, Any]) -> str:
    froc = figures.get("froc") or {}
    if not froc.get("thresholds") or None in froc["lesion_sensitivity"]:
        return ""
    decision = (figures.get("false_positives_per_case"), figures.get("lesion_sensitivity"))
    marked = None if None in decision else (float(decision[0] or 0), float(decision[1] or 0))
    chart = froc_figure(froc["false_positives_per_case"], froc["lesion_sensitivity"], marked)
    what = (
        "Lesions found against false alarms, at thresholds that the held-out normal cases set. The curve may turn "
        "back: marked regions fall apart when the threshold rises."
    )
    return _chart("Lesions (FROC)", what, chart_svg(chart, "lesion sensitivity against false positives per case"))


def _chart(title: str, what: str, svg: str) -> str:
    return f"<figure><h3>{title}</h3>{svg}<figcaption>{what}</figcaption></figure>\n"


def _case_table(cases: Sequence[ScoredCase]) -> str:
    shown = sorted(cases, key=lambda case: -case.score)[:_MOST_ROWS]
    left = f" The {len(shown)} highest scores; all cases are in results.csv." if len(shown) < len(cases) else ""
    rows = [
        [
            case.case_id,
            case.class_name or ("abnormal" if case.label else "normal"),
            "abnormal" if case.label else "normal",
            float(case.score),
            float(case.p_value),
            "flagged" if case.flagged else "",
        ]
        for case in shown
    ]
    columns = ["case", "class", "truth", "score", "p-value", "decision"]
    table = table_html(columns, rows, caption="A click on a heading sorts." + left, sortable=True)
    return f"<details><summary>{len(shown)} cases with scores, p-values and decisions</summary>{table}</details>\n"


def _details(details: Mapping[str, str]) -> str:
    entries = [
        (name, Html(f"<code>{escape(value)}</code>") if name == "command" else value) for name, value in details.items()
    ]
    return definitions_html(entries) if entries else ""

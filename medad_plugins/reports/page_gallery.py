"""The gallery of a report page: cards of cases with scan, map and overlay, and a slider through a volume."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from medad_plugins.reports.figures import MASK_COLOUR, TRUTH_COLOUR, colour_table
from medad_plugins.reports.gallery import Example, Slice
from medad_plugins.reports.page_skeleton import number_text

__all__ = ["gallery_html"]

_KINDS = {
    "false positive": ("False positives", "Normal cases that were flagged, those with the highest scores first."),
    "highest normal": (
        "Normal cases with the highest scores",
        "No normal case was flagged: these came closest to a false alarm.",
    ),
    "false negative": ("False negatives", "Abnormal cases that were not flagged, those with the lowest scores first."),
    "lowest abnormal": (
        "Abnormal cases with the lowest scores",
        "Every abnormal case was flagged: these came closest to being missed.",
    ),
    "true positive": ("True positives", "Abnormal cases that were flagged, those with the highest scores first."),
    "true negative": ("True negatives", "Normal cases that were not flagged, drawn at random."),
}
_PANELS = ("scan", "anomaly map", "overlay")


def gallery_html(examples: Sequence[Example], classes: Mapping[str, str]) -> str:
    """Cards of the examples, grouped by kind in the order they come, below the colour scale they share.

    Args:
        examples: of one `Gallery`.
        classes: class of a case by its id, where it has one.
    """
    if not examples:
        return ""
    parts = [_scale(examples[0], any(one.has_truth for example in examples for one in example.slices))]
    for kind, group in groupby(examples, key=lambda example: example.kind):
        title, what = _KINDS[kind]
        cards = "".join(_card(example, classes.get(example.case_id, "")) for example in group)
        parts.append(f'<h3>{title}</h3>\n<p class="soft">{what}</p>\n<div class="cards">\n{cards}</div>\n')
    return "".join(parts)


def _scale(example: Example, has_truth: bool) -> str:
    low, high = example.limits
    stops = ",".join(f"rgb({red},{green},{blue})" for red, green, blue in colour_table()[::15].tolist())
    share = (example.threshold - low) / (high - low)
    tick = ""
    if 0.0 <= share <= 1.0:
        tick = f'<u style="left:calc({100 * share:.1f}% - 1px)"></u>'
        if 0.12 < share < 0.88:  # its number would run into those of the ends
            tick += f'<span style="left:{100 * share:.1f}%">{example.threshold:.3g}</span>'
    keys = _key(MASK_COLOUR, f"mask of a flagged case, from {example.threshold:.3g} up")
    if has_truth:
        where = ", and below the slider its slices" if len(example.slices) > 1 else ""
        keys += _key(TRUTH_COLOUR, f"lesion as outlined{where}")
    described = f"colour scale of the map from {low:.3g} to {high:.3g}"
    return (
        f'<div class="scale"><div class="bar" role="img" aria-label="{described}">'
        f'<i style="background:linear-gradient(to right,{stops})"></i>'
        f'<span style="left:0">{low:.3g}</span>{tick}<span style="left:100%">{high:.3g}</span></div>{keys}</div>\n'
    )


def _key(colour: tuple[int, int, int], name: str) -> str:
    return f'<span class="key" style="--line:rgb{colour}">{escape(name)}</span>'


def _card(example: Example, class_name: str) -> str:
    shown = example.slices[example.start]
    badge = '<span class="badge yes">flagged</span>' if example.flagged else '<span class="badge no">not flagged</span>'
    truth = class_name or ("abnormal" if example.label else "normal")
    figures = f"{truth} · score {number_text(example.score)} · p {example.p_value:.3g}"
    across = "".join(f'<div class="panels across">{_panels(example.case_id, one)}</div>' for one in example.across)
    return (
        f'<article class="card"><header><b>{escape(example.case_id)}</b>{badge}'
        f'<small>{escape(figures)}</small><button type="button" aria-pressed="false">enlarge</button></header>'
        f'<div class="panels">{_panels(example.case_id, shown)}</div>'
        f"{_slider(example) if len(example.slices) > 1 else ''}{across}</article>\n"
    )


def _panels(case_id: str, shown: Slice) -> str:
    """Scan, map and overlay of a slice; of a coronal or sagittal one the first says which it is."""
    return "".join(
        _panel(case_id, what, picture, shown) for what, picture in zip(_PANELS, _pictures(shown), strict=True)
    )


def _panel(case_id: str, what: str, picture: str, shown: Slice) -> str:
    described = escape(f"{what} of {case_id}", quote=True)
    where = f", {escape(shown.name)}" if shown.name else ""
    side = f"<em>{escape(shown.left)}</em>" if shown.left and what == _PANELS[0] else ""
    named = escape(shown.name) if what == _PANELS[0] and shown.name and not shown.name.startswith("axial") else what
    return (
        f'<figure><img src="data:image/jpeg;base64,{picture}" alt="{described}{where}" data-what="{described}">'
        f"{side}<figcaption>{named}</figcaption></figure>"
    )


def _slider(example: Example) -> str:
    """The slider and, as data for the script, the pictures of every slice."""
    shown = example.slices[example.start].name
    slices = [{"name": one.name, "pictures": _pictures(one)} for one in example.slices]
    data = json.dumps(slices, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<label><output>{escape(shown)}</output><input type="range" min="0" max="{len(slices) - 1}" step="1" '
        f'value="{example.start}" autocomplete="off" aria-label="slice of {escape(example.case_id, quote=True)}" '
        f'aria-valuetext="{escape(shown)}"></label>{_lesion_strip(example)}'
        f'<script type="application/json">{data}</script>'
    )


def _lesion_strip(example: Example) -> str:
    """A line below the slider that marks the slices the outlined lesion reaches into."""
    last = len(example.slices) - 1
    marks = "".join(
        f'<i style="left:{100 * (index - 0.5) / last:.2f}%;width:{100 / last:.2f}%"></i>'
        for index, one in enumerate(example.slices)
        if one.has_truth
    )
    return f'<div class="strip" title="slices with the outlined lesion">{marks}</div>' if marks else ""


def _pictures(one: Slice) -> list[str]:
    return [base64.b64encode(picture).decode() for picture in (one.scan, one.anomaly_map, one.overlay)]

"""The page of a start: what the data is, which detector works on it and how sure that is, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from medad_plugins.audit import find_results
from medad_plugins.files import write_text
from medad_plugins.reports import html_page, table_html
from medad_plugins.reports.figure_tables import whisker_svg
from medad_plugins.reports.page_skeleton import Html, definitions_html, interval_text, number_text
from medad_plugins.start.detectors import Detector
from medad_plugins.start.first_data import FirstData
from medad_plugins.start.ranking import Ranked

__all__ = ["Outcome", "candidates", "next_commands", "verdict", "write_start_page"]

_STYLE = """<style>
.commands pre { background: var(--panel); border-radius: 8px; padding: 10px 14px; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 14px; }
.warn { color: var(--abnormal); }
#ranking td:last-child { min-width: 11em; }
@media screen and (max-width: 760px) { th, td { padding-right: 10px; } }
</style>
"""
_RECIPES = {
    "blob": "a ball brighter or darker than its surroundings",
    "intensity": "a region of smoothly changed intensity",
    "sink": "tissue drawn together",
    "source": "tissue pushed apart",
    "anatpaste": "a piece of the scan at another place",
}


@dataclass(frozen=True)
class Outcome:
    """All that a page shows.

    Attributes:
        data: what was read.
        ranking: of detectors and trivial ones, the best first.
        detectors: by name, those that were fitted.
        models: by name, their model files.
        commands: by name, how they were fitted.
        failures: name and sentence of those that were not.
        notes: further sentences, e.g. on weights.
        cards: by detector, markup of example maps.
        minutes: it all took.
        options: of the data for commands: ``--dataset_dir ...``.
    """

    data: FirstData
    ranking: list[Ranked]
    detectors: dict[str, Detector]
    models: dict[str, Path]
    commands: dict[str, str]
    failures: list[tuple[str, str]]
    notes: list[str]
    cards: Mapping[str, Sequence[str]] = field(default_factory=dict)
    minutes: float = 0.0
    options: str = ""

    @property
    def best(self) -> Ranked | None:
        """The detector to take, usable or not; None where none was fitted."""
        return next(iter(candidates(self.ranking, self.detectors)), None)


def candidates(ranking: Sequence[Ranked], detectors: Mapping[str, Detector]) -> list[Ranked]:
    """Those that are not trivial, the one to take first.

    By labelled cases that is the best. By synthetic anomalies it is the ensemble, if it is usable: they are spots and
    cannot tell whether the disease is one, and the ensemble holds detectors of both kinds.

    Args:
        ranking: the best first.
        detectors: by name.
    """
    fitted = [ranked for ranked in ranking if not ranked.trial.is_trivial]

    def is_first(ranked: Ranked) -> bool:
        return ranked.labelled is None and ranked.is_usable and detectors[ranked.trial.name].is_ensemble

    return sorted(fitted, key=is_first, reverse=True)


def verdict(outcome: Outcome) -> str:
    """The decision in a sentence or two, plain text."""
    best = outcome.best
    if best is None:
        return "No detector could be fitted, so there is nothing to decide on; the reasons stand below."
    by = "labelled validation cases" if best.labelled is not None else "synthetic anomalies in held-out normal scans"
    figure = f"AUROC {best.value:.3f}, 95 % interval {interval_text(best.interval)}, by {by}"
    if best.is_usable:
        sure = "" if best.first >= 0.8 else f" It is first in {best.first:.0%} of resamples, so others may be as good."
        is_ensemble = outcome.detectors[best.trial.name].is_ensemble
        if best.labelled is None and is_ensemble:
            sure = (
                " Synthetic anomalies cannot tell which of its members the disease asks for, so all are taken; ten "
                "labelled cases of both classes in the split val would tell."
            )
        article = "the " if is_ensemble else ""
        return f"Take {article}{best.trial.name}: {figure}.{sure}"
    trivial = next((ranked for ranked in outcome.ranking if ranked.trial.is_trivial), None)
    if trivial is not None and trivial.value >= best.value:
        return (
            f"No detector beats the {trivial.trial.name} here (AUROC {trivial.value:.3f}); the best of them is "
            f"{best.trial.name}: {figure}. Do not use one on this data as it is."
        )
    return f"No detector is usable here. The best is {best.trial.name}: {best.reason} ({figure})."


def next_commands(outcome: Outcome) -> list[tuple[str, str]]:
    """What to do with the best detector: a purpose and the command line for each."""
    best = outcome.best
    if best is None:
        return []
    name = best.trial.name
    bundle, model = outcome.detectors[name].bundle, shlex.quote(str(outcome.models[name]))
    run = f"python -m monai.bundle run --config_file bundles/{bundle}/configs"
    own = f"my_{bundle}"
    return [
        ("Apply it to new scans", f"{run}/inference.yaml --dataset_dir SCANS --ckpt_path {model} --output_dir results"),
        (
            "Evaluate it, once, on labelled test cases",
            f"{run}/evaluate.yaml {outcome.options} --ckpt_path {model} --output_dir evaluation",
        ),
        (
            "Read with it in MONAI Label",
            f"cp -r bundles/{bundle} {own} && mkdir -p {own}/models && cp {model} {own}/models/model.pt\n"
            f"python apps/label/serve.py start_server --studies SCANS --conf models {own}",
        ),
        ("Package it", f"python tools/package_bundle.py {bundle} --ckpt_path {model}"),
        ("Fit it again as it was fitted here", outcome.commands[name]),
    ]


def write_start_page(path: Path, outcome: Outcome) -> None:
    """Write one HTML file that loads nothing outside itself.

    Args:
        path: of the file.
        outcome: what it shows.
    """
    data = outcome.data
    sections = [
        ("data", "The data", _data_html(data)),
        ("ranking", "Which detector", _ranking_html(outcome)),
        ("maps", "What they mark", _cards_html(outcome)),
        ("failed", "What is not there or not usable, and why", _failures_html(outcome)),
        ("next", "What to type next", _commands_html(outcome)),
    ]
    filled = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, heading, _ in filled)
    best = outcome.best
    usable = best is not None and best.is_usable
    what = {2: "pictures", 3: "volumes"}[data.spatial_dims]
    counted = f"{len(data.audit.cases)} {what}, read, fitted and compared in {outcome.minutes:.1f} minutes"
    body = (
        f'{_STYLE}<h1>Start: {escape(data.name)}</h1>\n<p class="soft">{counted}</p>\n'
        f'<nav aria-label="sections">{links}</nav>\n'
        f'<p class="verdict{"" if usable else " warn"}">{escape(verdict(outcome))}</p>\n'
        + "".join(f'<p class="note">{escape(note)}</p>\n' for note in outcome.notes)
        + "".join(
            f'<section id="{name}"><h2>{heading}</h2>\n{content}</section>\n' for name, heading, content in filled
        )
        + "<footer>Written by MedAD. For research; not a medical device, not for diagnosis.</footer>"
    )
    write_text(path, html_page(f"Start: {data.name}", body))


def _data_html(data: FirstData) -> str:
    size = " x ".join(str(edge) for edge in data.edges)
    entries: list[tuple[str, object]] = [
        ("scans", f"{len(data.audit.cases)}, median size {size}" + (", in colour" if data.in_channels == 3 else "")),
        ("fitted on", f"{len(data.train)} normal scans"),
        ("judged on", f"{len(data.held_out)} held-out normal scans" + _and_labelled(data)),
    ]
    rows = [[split or "no split", label, count] for (split, label), count in data.audit.counts.items()]
    found = "".join(f"<li>{escape(sentence)}</li>" for sentence in find_results(data.audit))
    return (
        definitions_html(entries)
        + "".join(f'<p class="note">{escape(note)}</p>\n' for note in data.notes)
        + table_html(["split", "label", "scans"], rows)
        + f"<h3>Audit: copies, and what gives the label away</h3>\n<ul>{found}</ul>\n{_shortcuts_html(data)}"
        + _unreadable_html(data)
    )


def _and_labelled(data: FirstData) -> str:
    labels = [case["label"] for case in data.labelled]
    return f" and {labels.count(0)} normal and {labels.count(1)} abnormal cases of the split val" if labels else ""


def _shortcuts_html(data: FirstData) -> str:
    if not data.audit.shortcuts:
        return ""
    rows = [[one.attribute, one.auroc, one.normal, one.abnormal] for one in data.audit.shortcuts[:5]]
    columns = ["attribute alone", "AUROC", "normal", "abnormal"]
    return table_html(columns, rows, caption=f"What predicts the label best; tested on {data.audit.shortcuts_in}")


def _unreadable_html(data: FirstData) -> str:
    unreadable = data.audit.signatures.unreadable
    if not unreadable:
        return ""
    rows = [[str(data.audit.cases[i].get("case_id", "")), reason] for i, reason in unreadable[:20]]
    more = f"; the first 20 of {len(unreadable)}" if len(unreadable) > 20 else ""
    return table_html(["scan", "reason"], rows, caption=f"Scans that could not be read{more}")


def _ranking_html(outcome: Outcome) -> str:
    if not outcome.ranking:
        return ""
    labelled = outcome.ranking[0].labelled is not None
    rows: list[list[object]] = []
    for place, ranked in enumerate(outcome.ranking, start=1):
        name = Html(f"<em>{escape(ranked.trial.name)}</em>") if ranked.trial.is_trivial else ranked.trial.name
        shown = Html(
            f'<span class="line">{interval_text(ranked.interval)}{whisker_svg(ranked.value, ranked.interval)}</span>'
        )
        row: list[object] = [name, place, ranked.value, shown]
        if labelled:
            row.append(ranked.synthetic)
        precision = list(ranked.trial.pixel_precision.values())
        row += [
            None if ranked.trial.is_trivial else f"{ranked.first:.0%}",
            sum(precision) / len(precision) if precision else None,
            None if ranked.trial.is_trivial else f"{ranked.trial.seconds:.0f} s",
            "" if ranked.trial.is_trivial else ranked.reason.partition(":")[0] or "usable",  # whole further down
        ]
        rows.append(row)
    columns = ["detector", "rank", "AUROC", "95 % interval"]
    columns += ["on synthetic anomalies"] if labelled else []
    columns += ["first in resamples", "pixel precision, synthetic", "fitted in", "verdict"]
    by = (
        "Ranked by the labelled cases of the split val; those of the split test were not looked at."
        if labelled
        else "Ranked without any abnormal scan: by how well held-out normal scans with a synthetic anomaly are told "
        "from the same scans without one, the mean over kinds of anomalies. Synthetic anomalies are not lesions: this "
        "says whether a detector sees changes at all, and close ones may change places on real disease."
    )
    return (
        f"<p>{by} Intervals and first places come from resampling whole patients or groups of copies. Rows in italics "
        f"are trivial detectors: what a method does not beat there, it has not learnt.</p>\n"
        f"{table_html(columns, rows, sortable=True)}{_by_recipe_html(outcome)}"
    )


def _by_recipe_html(outcome: Outcome) -> str:
    recipes = list(dict.fromkeys(recipe for ranked in outcome.ranking for recipe in ranked.by_recipe))
    rows = [[ranked.trial.name, *(ranked.by_recipe.get(recipe) for recipe in recipes)] for ranked in outcome.ranking]
    listed = "; ".join(f"{recipe}: {_RECIPES.get(recipe, 'see docs/synthesis.md')}" for recipe in recipes)
    return table_html(["AUROC by kind of synthetic anomaly", *recipes], rows, caption=f"{listed}.")


def _cards_html(outcome: Outcome) -> str:
    parts = []
    for name, cards in outcome.cards.items():
        parts.append(f'<h3>{escape(name)}</h3>\n<div class="cards">\n{"".join(cards)}</div>\n')
    intro = "<p>Green: what is to be found. One colour scale for all scans of a detector.</p>\n"
    return intro + "".join(parts) if parts else ""


def _failures_html(outcome: Outcome) -> str:
    rows: list[list[object]] = [[name, reason] for name, reason in outcome.failures]
    rows += [
        [ranked.trial.name, ranked.reason]
        for ranked in outcome.ranking
        if ranked.reason and not ranked.trial.is_trivial
    ]
    return table_html(["detector", "reason"], rows) if rows else ""


def _commands_html(outcome: Outcome) -> str:
    best = outcome.best
    if best is None:
        return ""
    warning = "" if best.is_usable else '<p class="note">It is not usable on this data, see above.</p>\n'
    parts = [
        f"<h3>{escape(what)}</h3>\n<pre><code>{escape(line)}</code></pre>\n" for what, line in next_commands(outcome)
    ]
    name = escape(best.trial.name)
    return (
        f'{warning}<p>With {name}, from the root of the repository:</p>\n<div class="commands">{"".join(parts)}</div>\n'
    )


def summary_line(ranked: Ranked) -> str:
    """One line for the terminal."""
    mark = "" if ranked.trial.is_trivial else ("  usable" if ranked.is_usable else f"  not usable: {ranked.reason}")
    name = f"({ranked.trial.name})" if ranked.trial.is_trivial else ranked.trial.name
    return f"{name:45s} {number_text(ranked.value)}  [{interval_text(ranked.interval)}]{mark}"

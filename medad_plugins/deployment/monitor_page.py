"""The page of a monitoring: what changed, and whether the promise still holds."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medad_plugins.deployment.monitoring import FIGURES, Period, Watched
from medad_plugins.files import write_text
from medad_plugins.reports.charts import chart_svg
from medad_plugins.reports.page_skeleton import Html, html_page, number_text, table_html

__all__ = ["NOTICE", "verdicts", "write_monitor_page"]

NOTICE = 0.01  # false-alarm rate of the early notice, beside the alarm's own
# the page gives these colours a meaning of their own, see `chart_svg`
_COLOURS = {"anomaly_score": "#c83030", "input_mean": "#3b7ea1", "input_spread": "#333333"}
_FAINT = "#bbbbbb"


def verdicts(watched: Watched) -> list[str]:
    """What has happened, one sentence for each figure."""
    sentences = []
    for figure in watched.alarms:
        name, last = FIGURES[figure], len(watched.alarms[figure].history)
        alarm, notice = watched.alarm_at(figure), watched.alarm_at(figure, NOTICE)
        if alarm is not None:
            where = _period_of(watched, alarm)
            text = f"ALARM: the {name} is no longer that of the reference, since scan {alarm} ({where})"
        elif notice is not None:
            text = f"Notice: the {name} may have changed, since scan {notice} ({_period_of(watched, notice)})"
        else:
            text = f"The {name} has not changed, as far as {last} scans tell"
        sentences.append(f"{text}.")
    return sentences


def _period_of(watched: Watched, scan: int) -> str:
    """Name of the period that a watched scan is of."""
    for period in watched.periods:
        if scan <= period.watched:
            return period.scans.name
        scan -= period.watched
    return watched.periods[-1].scans.name


def write_monitor_page(path: str | Path, watched: Watched) -> None:
    """Write one HTML file that loads nothing outside itself.

    Args:
        path: of the file.
        watched: what was found.
    """
    total = sum(period.watched for period in watched.periods)
    kind = "scans known to be normal" if watched.normal_only else "scans"
    notes = [*(text for text in verdicts(watched) if not text.startswith("The ")), *watched.remarks]
    calm = [text for text in verdicts(watched) if text.startswith("The ")]
    body = (
        f"<h1>Monitoring of {total} {kind}</h1>\n"
        f'<p class="soft">Compared with {escape(watched.reference.name)}, in {len(watched.periods)} '
        f"{'period' if len(watched.periods) == 1 else 'periods'}. For research only.</p>\n"
        + "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes)
        + "".join(f"<p>{escape(text)}</p>\n" for text in calm)
        + "<h2>The alarm</h2>\n"
        f"<p>How much a gambler would have won by betting that scans differ from the reference. While nothing changes, "
        f"any of the {len(watched.alarms)} lines ever passes the upper dashed line with a probability of at most "
        f"{watched.rate:g}, and the lower one of {NOTICE:g}, however often one looks.</p>\n"
        f"<figure>{chart_svg(_wealth_figure(watched), 'evidence of a change, scan by scan')}</figure>\n"
        "<h2>The promise</h2>\n" + _promise_table(watched) + "<h2>The figures</h2>\n" + _figures_table(watched)
    )
    body += "<h2>What the results are of</h2>\n" + _texts_table(watched.periods)
    write_text(path, html_page("Monitoring", body))


def _wealth_figure(watched: Watched) -> Figure:
    figure = Figure(figsize=(7, 3.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    share = len(watched.alarms)
    for name, alarm in watched.alarms.items():
        evidence = np.asarray(alarm.history) / math.log(10)
        axes.plot(np.arange(1, evidence.size + 1), evidence, color=_COLOURS[name], label=FIGURES[name])
    for rate, style in ((watched.rate, "--"), (NOTICE, ":")):
        axes.axhline(math.log10(share / rate), color=_FAINT, linestyle=style)
    edge = 0
    for period in watched.periods[:-1]:
        edge += period.watched
        axes.axvline(edge + 0.5, color=_FAINT, linewidth=0.8)
    axes.set(xlabel="scan", ylabel="evidence (powers of ten)")
    axes.legend(frameon=False, fontsize=9)
    return figure


def _promise_table(watched: Watched) -> str:
    rows: list[list[object]] = []
    for period in watched.periods:
        share, low, high = period.flagged
        alpha = period.scans.alpha
        kept = "broken" if low > alpha else "kept" if high <= 2 * alpha else "cannot tell"
        interval = Html(f'<span class="line">{100 * low:.1f} to {100 * high:.1f} %</span>') if period.watched else ""
        shown = f"{100 * share:.1f} %" if period.watched else None
        verdict = kept if watched.normal_only and period.watched else None
        rows.append([period.scans.name, period.watched, period.scans.unread, f"{alpha:g}", shown, interval, verdict])
    columns = ["period", "scans", "unread", "alpha", "flagged", "95 % interval", "promise"]
    caption = "Of normal scans at most a share alpha is flagged. Without labels, abnormal scans are counted too."
    return table_html(columns, rows, caption=caption)


def _figures_table(watched: Watched) -> str:
    names = list(watched.alarms)
    medians = {name: float(np.median(watched.reference.figures[name])) for name in names}
    rows: list[list[object]] = [["reference", *(cell for name in names for cell in (medians[name], None))]]
    for period in watched.periods:
        cells: list[object] = []
        for name in names:
            difference = period.differences.get(name)
            mark = None if difference is None else f"{difference:.2g}"
            strong = Html(f"<b>{mark}</b>") if difference is not None and difference < NOTICE else mark
            cells += [period.medians.get(name), strong]
        rows.append([period.scans.name, *cells])
    columns = ["period", *(text for name in names for text in (f"{FIGURES[name]}, median", "p"))]
    return table_html(
        columns, rows, caption="p: two-sample Kolmogorov-Smirnov test against the reference, uncorrected."
    )


def _texts_table(periods: list[Period]) -> str:
    names = {"model_hash": "model", "settings_hash": "settings", "input_size": "size", "input_spacing": "spacing, mm"}
    rows: list[list[object]] = []
    for period in periods:
        cells = []
        for column in names:
            found = period.scans.texts[column].most_common(3)
            more = len(period.scans.texts[column]) - len(found)
            text = ", ".join(f"{value} ({count})" for value, count in found)
            cells.append(f"{text}, {more} more" if more else text or number_text(None))
        rows.append([period.scans.name, *cells])
    return table_html(["period", *names.values()], rows, caption="Value and number of scans.")

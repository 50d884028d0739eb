"""The skeleton of a report page: one HTML file that loads nothing outside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from medad_plugins.reports.page_style import SCRIPT, STYLE

__all__ = ["Html", "definitions_html", "html_page", "interval_text", "number_text", "table_html"]

# The browser itself refuses whatever a page might request from the network.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'"


class Html(str):
    """Text that is markup already; every other text is escaped."""

    __slots__ = ()


def html_page(title: str, body: str) -> str:
    """A whole page: style and script inside, light or dark as the reader's system is, printable.

    Args:
        title: plain text.
        body: markup of the page below its head; begins with its own ``h1``.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def number_text(value: object) -> str:
    """A figure as the page prints it: whole numbers as they are, others with three decimals; a dash for None."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:.4g}"
    return str(value)


def interval_text(interval: Sequence[float] | None) -> str:
    """``low to high``; nothing for None."""
    return " to ".join(number_text(float(end)) for end in interval) if interval else ""


def table_html(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    caption: str = "",
    sortable: bool = False,
    style: str = "",
) -> str:
    """A table whose first column names the row; numbers are aligned right.

    Args:
        columns: headings.
        rows: a cell per column: text, `Html`, numbers, None.
        caption: a sentence above it.
        sortable: whether a click on a heading sorts.
        style: CSS class.
    """
    numeric = [any(isinstance(row[column], int | float) for row in rows) for column in range(len(columns))]
    classes = " ".join(name for name in (style, "sortable" if sortable else "") if name)
    heads = []
    for name, number in zip(columns, numeric, strict=True):
        label = f'<button type="button">{_text(name)}</button>' if sortable else _text(name)
        heads.append(f'<th scope="col"{_NUMBER if number else ""}>{label}</th>')
    lines = ["<tr>" + "".join(_cell(*cell) for cell in zip(range(len(row)), row, numeric, strict=True)) for row in rows]
    body = "</tr>\n".join([*lines, ""])
    # not a caption element: that would be as wide as the table, of which a telephone shows a part
    above = f'<p class="caption">{_text(caption)}</p>\n' if caption else ""
    # a scrolling region must be reachable by keyboard
    return (
        f'{above}<div class="wide" tabindex="0" role="region" aria-label="{escape(caption or columns[0])}">'
        f'<table class="{classes}"><thead><tr>{"".join(heads)}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        "\n"
    )


def definitions_html(entries: Sequence[tuple[str, object]]) -> str:
    """Names and what they are."""
    lines = [f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in entries]
    return f"<dl>{''.join(lines)}</dl>\n"


_NUMBER = ' class="number"'


def _text(value: object) -> str:
    return value if isinstance(value, Html) else escape(number_text(value))


def _cell(column: int, value: object, number: bool) -> str:
    if column == 0:
        return f'<th scope="row">{_text(value)}</th>'
    exact = f' data-value="{value!r}"' if isinstance(value, float) else ""
    return f"<td{_NUMBER if number else ''}{exact}>{_text(value)}</td>"

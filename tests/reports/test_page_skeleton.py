"""What all report pages are made of."""

from __future__ import annotations

import pytest

from medad_plugins.reports import html_page, table_html
from medad_plugins.reports.page_skeleton import Html, definitions_html, interval_text, number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (1.0, "1.000"), (12, "12"), (123456.0, "1.235e+05"), (None, "\N{EN DASH}"), ("a", "a")],
)
def test_numbers_as_they_are_printed(value: object, text: str) -> None:
    assert number_text(value) == text


def test_intervals_as_they_are_printed() -> None:
    assert interval_text([0, 0.25]) == "0.000 to 0.250"
    assert interval_text(None) == ""


def test_a_table_escapes_text_and_keeps_markup() -> None:
    table = table_html(["a < b", "n", "x"], [["r&d", 3, Html("<b>1</b>")], ["s", None, "<i>"]], caption='say "so"')
    assert "a &lt; b" in table
    assert "r&amp;d" in table
    assert "<b>1</b>" in table
    assert "&lt;i&gt;" in table
    assert 'aria-label="say &quot;so&quot;"' in table
    assert table.count('class="number"') == 3  # the heading and both cells of the one column with numbers
    assert "<button" not in table


def test_a_sortable_table_keeps_the_whole_number() -> None:
    table = table_html(["case", "score"], [["a", 0.123456789]], sortable=True)
    assert 'data-value="0.123456789"' in table
    assert ">0.123<" in table
    assert table.count("<button") == 2


def test_a_page_lets_nothing_in_from_outside() -> None:
    page = html_page("a <b>", "<h1>x</h1>")
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>a &lt;b&gt;</title>" in page
    assert "default-src 'none'" in page
    assert "<dt>k</dt><dd>&lt;v&gt;</dd>" in definitions_html([("k", "<v>")])

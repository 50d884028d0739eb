"""The report page of an evaluation: what it says."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from page_samples import FIGURES, SampleCase, sample_cases, sample_examples

from medad_plugins.errors import InputError
from medad_plugins.metrics import binomial_interval
from medad_plugins.reports import write_evaluation_page
from medad_plugins.reports.page import decision_score


def _page(tmp_path: Path, **changes: Any) -> str:
    given: dict[str, Any] = {
        "title": "PaDiM on the sample cohort",
        "figures": FIGURES,
        "cases": sample_cases(),
        "alpha": 0.05,
        "examples": [],
        "details": {"bundle": "padim 0.1.0", "command": "python -m monai.bundle run --alpha 0.05"},
        **changes,
    }
    write_evaluation_page(tmp_path / "report.html", **given)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def _text(markup: str) -> str:
    """What a reader sees, in one line."""
    for hidden in ("style", "script", "head"):
        markup = re.sub(rf"<{hidden}\b.*?</{hidden}>", " ", markup, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


class _Tags(HTMLParser):
    """Whether the tags are closed in order."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_page_is_one_well_formed_file_that_names_no_address(tmp_path: Path, spatial_dims: int) -> None:
    page = _page(tmp_path, examples=sample_examples(spatial_dims))
    parser = _Tags()
    parser.feed(page)
    assert parser.open == []
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    # names of XML dialects are no addresses
    assert set(re.findall(r"https?://[^\"\s]*", page)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.findall(r"@import|url\((?!#)", page)
    sources = re.findall(r'\b(?:src|href|xlink:href)="([^"]{0,12})', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_figures_stand_there_with_their_intervals(tmp_path: Path) -> None:
    text = _text(_page(tmp_path))
    for printed in ("0.812 0.710 to 0.904", "0.500 0.250 to 0.750", "0.125 0.015 to 0.384", "0.654", "1.750"):
        assert printed in text, printed
    assert "score above 2.5" in text
    assert "abnormal cases with an outline: 11, lesions: 19" in text
    assert "below 71 4 0.222 0.111 to 0.333 0.432" in text
    assert "Highest pooled Dice (bound)" in text
    assert "71 and more 15" in text


def test_upper_bounds_are_marked_and_never_in_the_headline(tmp_path: Path) -> None:
    page = _page(tmp_path)
    headline, rest = page.split('id="figures"')
    table = rest.split("</table>")[0]
    for bound in ("0.987", "0.965"):
        assert bound not in _text(headline)
        assert bound in _text(table)
        (row,) = re.findall(rf"<tr[^>]*>(?:(?!<tr).)*?{bound}.*?</tr>", table, flags=re.DOTALL)
        assert row.startswith('<tr class="bound">')
    assert "0.812" in _text(headline)
    assert _text(table).index("Upper bounds") < _text(table).index("0.987")


@pytest.mark.parametrize("missing", [{}, dict.fromkeys(FIGURES)])
def test_any_figure_may_be_missing(tmp_path: Path, missing: dict[str, Any]) -> None:
    page = _page(tmp_path, figures=missing)
    text = _text(page)
    assert "None" not in text
    assert "nan" not in text
    assert "ROC curve" in text  # drawn from the cases
    assert "FROC" not in text


def test_what_was_flagged_is_reported_in_words(tmp_path: Path) -> None:
    cases = [SampleCase(f"n{i}", 0, i, 0.5 if i else 0.01, i == 0) for i in range(20)]
    cases += [SampleCase(f"a{i}", 1, i, 0.01, i < 3) for i in range(4)]
    assert "flagged 3 of 4 abnormal cases (75 %) and 1 of 20 normal cases (5 %)" in _text(_page(tmp_path, cases=cases))


def test_what_a_reader_must_know_is_reported(tmp_path: Path) -> None:
    beyond, guessing, few = "beyond chance", "better than guessing", "read the intervals"
    text = _text(_page(tmp_path))
    assert few in text
    assert beyond not in text
    assert guessing not in text
    doubtful = {**FIGURES, "false_positive_rate_95ci": [0.06, 0.4], "auroc_95ci": [0.45, 0.9]}
    text = _text(_page(tmp_path, figures=doubtful, cases=sample_cases(200)))
    assert beyond in text
    assert guessing in text
    assert few not in text


@pytest.mark.parametrize(("label", "name"), [(0, "abnormal"), (1, "normal")])
def test_cases_of_one_class(tmp_path: Path, label: int, name: str) -> None:
    cases = [case for case in sample_cases() if case.label == label]
    text = _text(_page(tmp_path, cases=cases, figures={"auroc": None}))
    assert f"There is no {name} case" in text
    assert "ROC curve" not in text
    assert ("Is the promise kept?" in text) == (label == 0)


def test_nothing_flagged_and_everything_flagged(tmp_path: Path) -> None:
    for flagged in (False, True):
        cases = [SampleCase(f"c{i}", i % 2, float(i), 0.01 if flagged else 0.9, flagged) for i in range(6)]
        assert decision_score(cases) is None
        assert "Precision and recall" in _text(_page(tmp_path, cases=cases))
    between = [SampleCase("a", 1, 4.0, 0.01, True), SampleCase("b", 0, 1.0, 0.9, False)]
    assert decision_score(between) == 2.5


def test_classes_are_distinguished(tmp_path: Path) -> None:
    cases = sample_cases()
    text = _text(_page(tmp_path, cases=cases))
    blobs = [case for case in cases if case.class_name == "blob"]
    flagged = sum(case.flagged for case in blobs)
    interval = binomial_interval(flagged, len(blobs))
    assert interval is not None
    low, high = interval
    higher = [blob.score > case.score for blob in blobs for case in cases if case.label == 0]
    figures = f"{sum(higher) / len(higher):.3f} {flagged} {flagged / len(blobs):.3f} {low:.3f} to {high:.3f}"
    assert f"blob abnormal {len(blobs)} {figures}" in text
    alike = [SampleCase(case.case_id, case.label, case.score, case.p_value, case.flagged) for case in cases]
    assert "By class" not in _text(_page(tmp_path, cases=alike))


def test_all_cases_are_listed_and_long_lists_cut(tmp_path: Path) -> None:
    cases = sample_cases()
    page = _page(tmp_path, cases=cases)
    assert all(case.case_id in page for case in cases)
    many = [SampleCase(f"c{i}", i % 2, float(i), 0.5, i > 5000) for i in range(6000)]
    page = _page(tmp_path, cases=many)
    assert page.count('scope="row">c') == 5000
    assert "c5999" in page
    assert "c999<" not in page
    assert "all cases are in results.csv" in page


def test_names_are_no_markup(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>\"&amp;"
    cases = [SampleCase(evil, 1, 1.0, 0.01, True, evil), SampleCase("b", 0, 0.0, 0.9, False, evil)]
    examples = sample_examples(3, evil)
    clean = _page(tmp_path, cases=cases[1:])
    page = _page(tmp_path, title=evil, cases=cases, examples=examples, details={evil: evil, "command": evil})
    assert "<script>alert" not in page
    assert "alert('x')</script>\"" in unescape(page)
    _Tags().feed(page)
    # what the page brings itself, and the pictures of the sliders
    assert page.count("<script") == clean.count("<script") + len(examples)


def test_examples_come_by_kind_with_a_slider_for_volumes(tmp_path: Path) -> None:
    examples = sample_examples(3)
    page = _page(tmp_path, examples=examples)
    assert page.count('<article class="card">') == page.count('type="range"') == len(examples)
    shown = [_text(card.split("</article>")[0]) for card in page.split("<article")[1:]]
    for example, card in zip(examples, shown, strict=True):
        assert example.case_id in card
        assert ("not flagged" in card) == (not example.flagged)
        assert example.slices[example.start].name in card
    assert "mask of a flagged case, from 1 up" in page
    assert "lesion as outlined" in page
    flat = _page(tmp_path, examples=sample_examples(2))
    assert 'type="range"' not in flat
    assert "lesion as outlined" not in flat


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_evaluation_page(
            tmp_path / "file" / "report.html",
            title="",
            figures={},
            cases=sample_cases(),
            alpha=0.05,
            examples=[],
            details={},
        )

"""The page of a start: what it decides, and that it stands alone."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medad_plugins.start import Detector, FirstData, Trial, rank_trials, read_first_data
from medad_plugins.start.page import Outcome, candidates, next_commands, verdict, write_start_page

_VOID = {"meta", "link", "img", "br", "input", "line", "circle"}


class _Nesting(HTMLParser):
    """Fails where elements are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


def _trial(name: str, shift: float, is_trivial: bool = False) -> Trial:
    clean = np.random.default_rng(len(name)).standard_normal(30)
    pixels = {} if is_trivial else {"blob": 0.25}
    return Trial(name, clean, {"blob": clean + shift}, pixels, is_trivial=is_trivial, seconds=12.0)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> FirstData:
    folder = tmp_path_factory.mktemp("scans <b>&amp;")
    for number in range(14):
        values = np.random.default_rng(number).integers(0, 255, (20, 24), dtype=np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    return read_first_data(str(folder), workers=0)


def _outcome(first: FirstData, *trials: Trial) -> Outcome:
    names = [trial.name for trial in trials if not trial.is_trivial]
    return Outcome(
        first,
        rank_trials(list(trials), [f"{i}" for i in range(30)]),
        {name: Detector(name, name) for name in names},
        {name: Path(f"out/fits/{name} 1/model.pt") for name in names},
        {name: f"python -m monai.bundle run --config_file bundles/{name}/configs/train.yaml" for name in names},
        [("vae", "it could not be fitted: <the reason>")],
        ["A note & another."],
        options="--dataset_dir scans",
    )


def test_the_decision_names_the_best_or_says_why_there_is_none(first: FirstData) -> None:
    look_up = "thumbnail nearest neighbour"
    good = _outcome(first, _trial("padim", 3.0), _trial("knn", 0.2), _trial(look_up, 0.5, True))
    assert verdict(good).startswith("Take padim: AUROC 0.9")
    beaten = _outcome(first, _trial("padim", 1.0), _trial(look_up, 3.0, True))
    assert "No detector beats the thumbnail nearest neighbour here" in verdict(beaten)
    guessing = _outcome(first, _trial("padim", 0.0), _trial(look_up, -1.0, True))
    assert "No detector is usable here" in verdict(guessing) and "guessing" in verdict(guessing)
    assert "No detector could be fitted" in verdict(_outcome(first, _trial(look_up, 1.0, True)))
    assert next_commands(_outcome(first, _trial(look_up, 1.0, True))) == []


def test_without_labelled_cases_the_ensemble_is_taken_where_it_is_usable(first: FirstData) -> None:
    trials = [_trial("padim", 3.0), _trial("ensemble", 1.5), _trial("look-up", 0.5, True)]
    outcome = _outcome(first, *trials)
    assert [ranked.trial.name for ranked in outcome.ranking] == ["padim", "ensemble", "look-up"]
    assert [ranked.trial.name for ranked in candidates(outcome.ranking, outcome.detectors)] == ["ensemble", "padim"]
    assert verdict(outcome).startswith("Take the ensemble: AUROC 0.") and "ten labelled cases" in verdict(outcome)
    assert "--ckpt_path 'out/fits/ensemble 1/model.pt'" in next_commands(outcome)[0][1]

    beaten = _outcome(first, *trials[:2], _trial("look-up", 2.0, True))
    assert verdict(beaten).startswith("Take padim")

    # labelled cases know better
    truth = np.repeat([0, 1], 10)
    judged = [replace(one, labelled=truth * shift + one.clean[:20]) for one, shift in zip(trials, (9.0, 1.0, 0.0))]
    ranking = rank_trials(judged, [f"{i}" for i in range(30)], list(truth), [f"{i}" for i in range(20)])
    assert verdict(replace(outcome, ranking=ranking)).startswith("Take padim")


def test_the_page_is_whole_stands_alone_and_escapes_what_it_is_told(first: FirstData, tmp_path: Path) -> None:
    outcome = _outcome(first, _trial("padim", 3.0), _trial("knn", 0.0), _trial("mean intensity", 0.1, True))
    write_start_page(tmp_path / "start.html", outcome)
    page = (tmp_path / "start.html").read_text("utf-8")
    nesting = _Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert set(re.findall(r'href="#(\w+)"', page)) <= set(re.findall(r'<section id="(\w+)"', page))
    assert "&lt;the reason&gt;" in page and "A note &amp; another." in page and "<b>&amp;amp;" not in page
    # on a telephone tables scroll in themselves and commands wrap
    assert "width=device-width" in page and "overflow-wrap: anywhere" in page
    assert page.count('<div class="wide"') == page.count("<table")
    for purpose, command in next_commands(outcome):
        assert purpose in page
        assert "padim" in command
    assert "'out/fits/padim 1/model.pt'" in next_commands(outcome)[0][1], "a path with spaces is quoted"

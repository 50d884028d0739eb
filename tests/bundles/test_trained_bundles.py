"""Which tests are slow, of which bundle and in which dimension; and what the tests are said to cost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trained_bundles
from bundle_runs import BUNDLES
from changed_bundles import FIXED, CostlyBundles
from cpu_seconds import pytest_terminal_summary, table

from medad_plugins.handlers import EvaluationReport

OTHER = next(bundle for bundle in BUNDLES if bundle not in FIXED)


class _Item:
    """As much of a test as is looked at."""

    def __init__(self, *marks: pytest.MarkDecorator, **params: Any) -> None:
        self.marks, self.location = [mark.mark for mark in marks], ("tests/test_file.py", 1, "name")
        self.path = Path(self.location[0])
        self.callspec = SimpleNamespace(params=params)

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, mark: pytest.MarkDecorator) -> None:
        self.marks.append(mark.mark)


def _is_slow(item: _Item, tested: CostlyBundles) -> bool:
    config: Any = SimpleNamespace(stash={trained_bundles._COSTLY: tested})
    items: Any = [item]
    trained_bundles.pytest_collection_modifyitems(config, items)
    return item.get_closest_marker("slow") is not None


@pytest.mark.parametrize(
    ("marks", "params", "slow"),
    [
        ([], {"trained": (OTHER, 3)}, False),
        ([pytest.mark.slow_in_3d], {"trained": ("edc", 2)}, False),
        ([pytest.mark.slow_in_3d], {"trained": ("edc", 3)}, True),
        ([pytest.mark.slow_in_3d], {"bundle": "edc", "spatial_dims": 3}, True),
        ([pytest.mark.costly], {"trained": ("edc", 3)}, False),
        ([pytest.mark.costly], {"trained": (OTHER, 2)}, True),
        ([pytest.mark.costly], {"bundle": OTHER}, True),
        ([pytest.mark.costly_in_3d], {"trained": (OTHER, 2)}, False),
        ([pytest.mark.costly_in_3d], {"trained": (OTHER, 3)}, True),
        ([pytest.mark.costly_in_3d], {"trained": ("edc", 3)}, False),
        ([pytest.mark.slow_but_for("edc", "padim")], {"trained": "padim"}, False),
        ([pytest.mark.slow_but_for("edc", "padim")], {"trained": "squid"}, True),
        ([pytest.mark.costly, pytest.mark.deploy], {"trained": (OTHER, 2)}, True),
    ],
)
def test_marks_say_what_is_slow(marks: list[pytest.MarkDecorator], params: dict[str, Any], slow: bool) -> None:
    assert _is_slow(_Item(*marks, **params), CostlyBundles(FIXED, "")) == slow


@pytest.mark.parametrize(
    ("file", "bundle"),
    [
        ("tests/methods/test_memae.py", "memae"),
        ("tests/methods/test_rd_plus_plus.py", "rd_plus_plus"),
        ("tests/methods/test_ae_flow_terms.py", "ae_flow"),
        ("tests/methods/test_slugs.py", None),
        ("tests/networks/test_ae.py", None),
    ],
)
def test_a_method_s_own_tests_are_of_its_bundle(file: str, bundle: str | None) -> None:
    item: Any = _Item()
    item.path = Path(file)
    assert trained_bundles.bundle_of(item) == bundle


def test_where_the_change_is_not_known_hosts_ask_the_fixed_ones() -> None:
    everyone = CostlyBundles(tuple(BUNDLES), "", known=False)
    assert not _is_slow(_Item(pytest.mark.costly, trained=(OTHER, 2)), everyone)
    assert _is_slow(_Item(pytest.mark.costly, pytest.mark.label, trained=(OTHER, 2)), everyone)
    touched = CostlyBundles((*FIXED, OTHER), "")
    assert not _is_slow(_Item(pytest.mark.costly, pytest.mark.label, trained=(OTHER, 2)), touched)


def test_reports_are_not_drawn() -> None:
    assert EvaluationReport._draw.__name__ == "<lambda>"


@pytest.mark.pictures
def test_reports_are_drawn_where_a_test_looks() -> None:
    assert EvaluationReport._draw.__name__ == "_draw"


def test_costs_are_added_up_and_ranked() -> None:
    lines = list(table({"a": [0.5, 0.25], "b": [2.0], "c": [1.0, 4.0], "d": [0.125]}))
    assert [line.split() for line in lines] == [
        "5.0 2 tests c".split(),
        "2.0 1 tests b".split(),
        "0.9 3 tests 2 others".split(),
        "7.9 6 tests all".split(),
    ]
    assert [line.split()[-1] for line in table({"a": [3.0], "b": [2.0]}, 1)] == ["a", "others", "all"]


def test_the_costs_of_workers_are_read_from_their_reports() -> None:
    def report(when: str, seconds: float, nodeid: str) -> Any:
        properties = [("cpu_seconds", seconds), ("bundle", "edc" if "edc" in nodeid else "")]
        return SimpleNamespace(when=when, nodeid=nodeid, user_properties=properties if when == "teardown" else [])

    written: list[str] = []
    reports = [report("call", 9, "a.py::x"), report("teardown", 3, "a.py::x"), report("teardown", 2, "a.py::y[edc]")]
    terminal: Any = SimpleNamespace(stats={"": reports}, write_line=written.append, section=written.append)
    for tested in (False, True):
        config: Any = SimpleNamespace(getoption=lambda _, tested=tested: tested)
        pytest_terminal_summary(terminal, config)
        assert bool(written) == tested
    words = [line.split() for line in written]
    assert "5.0 2 tests a.py".split() in words and "2.0 1 tests edc".split() in words
    assert "3.0 1 tests a.py::x".split() in words

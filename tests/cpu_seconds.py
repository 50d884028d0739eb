"""What the tests cost in CPU seconds, by file and by bundle: ``pytest --cpu``, with ``-n`` too.

CPU seconds are of the process and of all it started and waited for, so they do not depend on what else the machine
does. What several tests share, such as a trained bundle, counts to the test that uses it first: sums over a
bundle are right, those over a file depend on which files run.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Generator, Iterable

import pytest
from trained_bundles import bundle_of

_CPU, _BUNDLE, _START = "cpu_seconds", "bundle", pytest.StashKey[float]()
_LEAST = 1.0  # what costs less together is one line
_TESTS = 20


def _now() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption(
        "--cpu", action="store_true", help="report CPU seconds by file and by bundle, and the dearest tests"
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Take the time before anything is set up for a test."""
    item.stash[_START] = _now()
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Take the time after all is torn down; a report carries it from a worker to the controller."""
    if call.when == "teardown":
        item.user_properties.append((_CPU, _now() - item.stash[_START]))
        item.user_properties.append((_BUNDLE, bundle_of(item) or ""))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the requested tables."""
    if not config.getoption("--cpu"):
        return
    files: dict[str, list[float]] = defaultdict(list)
    bundles: dict[str, list[float]] = defaultdict(list)
    tests: dict[str, list[float]] = defaultdict(list)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        properties = dict(getattr(report, "user_properties", ()))
        # a test that fails has a second report
        if getattr(report, "when", "") != "teardown" or _CPU not in properties:
            continue
        seconds = float(properties[_CPU])
        tests[report.nodeid].append(seconds)
        files[report.nodeid.partition("::")[0]].append(seconds)
        if properties[_BUNDLE]:
            bundles[str(properties[_BUNDLE])].append(seconds)
    write = terminalreporter.write_line
    for title, sums in (("file", files), ("bundle", bundles)):
        terminalreporter.section(f"CPU seconds by {title}")
        for line in table(sums):
            write(line)
    terminalreporter.section("CPU seconds of the dearest tests")
    for line in table(tests, _TESTS):
        write(line)


def table(sums: dict[str, list[float]], most: int | None = None) -> Iterable[str]:
    """A line each for what costs most, one for the rest and one for all."""
    ranked = sorted(sums.items(), key=lambda entry: -sum(entry[1]))
    shown = [entry for entry in ranked if sum(entry[1]) >= _LEAST][:most]
    rest = [seconds for _, costs in ranked[len(shown) :] for seconds in costs]
    everything = [seconds for costs in sums.values() for seconds in costs]
    for name, costs in [*shown, (f"{len(ranked) - len(shown)} others", rest), ("all", everything)]:
        yield f"{sum(costs):9.1f}  {len(costs):5d} tests  {name}"

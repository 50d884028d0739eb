"""The tool that runs the hosts' tests: what it reports of a host, and when it fails."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from medad_plugins.errors import InputError

TOOL = runpy.run_path(str(Path(__file__).resolve().parents[2] / "tools" / "check_hosts.py"))

PASSES = 'echo "==== 3 passed, 1 skipped in 2.50s ===="; echo "SKIPPED [1] tests/x.py:9: needs a GPU"'
FAILS = 'echo "==== 1 failed, 2 passed in 2.50s ===="; exit 1'


def _environments(folder: Path, install: str = "exit 0", load: str = "exit 0", test: str = PASSES) -> Path:
    """A folder with an environment of Ray whose interpreter does as configured; it writes down that it was called."""
    python = folder / "ray" / "bin" / "python"
    python.parent.mkdir(parents=True)
    cases = "\n".join(f"*{word}*) {what} ;;" for word, what in (("pip", install), ("pytest", test), ("import", load)))
    python.write_text(f'#!/bin/sh\necho "$*" >> "{folder}/calls"\ncase "$*" in\n{cases}\nesac\n')
    python.chmod(0o755)
    python.with_name("pip").touch()
    return folder


def _run(folder: Path, **options: Any) -> None:
    TOOL["main"]("ray", folder=str(folder), **{"minutes_least": 0, **options})


def test_it_installs_once_and_tells_counts_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _environments(tmp_path)
    for _ in range(2):
        _run(tmp_path)
        said = capsys.readouterr().out
        assert (
            said.startswith("ray: passed (3 passed, 1 skipped; needs a GPU); 0 s to install") and said.count("\n") == 1
        )
    calls = (tmp_path / "calls").read_text()
    assert calls.count("pip install") == 1 and calls.count("environments/ray.txt") == 1
    assert calls.count("-m pytest") == 2 and "test_ray.py" in calls and "test_label" not in calls
    assert calls.count("-m ray and not slow") == 2


def test_it_runs_the_slow_tests_where_configured(tmp_path: Path) -> None:
    _run(_environments(tmp_path), slow=True)
    assert "-m ray" in (tmp_path / "calls").read_text() and "not slow" not in (tmp_path / "calls").read_text()


def test_a_failing_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="tests failed with ray"):
        _run(_environments(tmp_path, test=FAILS))
    assert "ray: failed (1 failed, 2 passed)" in capsys.readouterr().out


def test_pytest_that_breaks_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _run(_environments(tmp_path, test="exit 5"))
    assert "ray: failed (pytest ended with status 5)" in capsys.readouterr().out


def test_a_machine_without_the_packages_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(_environments(tmp_path, install='echo "  ERROR: No matching distribution"; echo "error: see above"; exit 1'))
    assert capsys.readouterr().out == "ray: could not be installed (ERROR: No matching distribution)\n"
    assert "pytest" not in (tmp_path / "calls").read_text()
    # the next call tries again
    _run(tmp_path)
    assert (tmp_path / "calls").read_text().count("pip install") == 2


def test_a_host_that_does_not_load_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(_environments(tmp_path, load='echo "ImportError: libGL.so.1"; exit 1'))
    assert capsys.readouterr().out == "ray: could not be installed (ImportError: libGL.so.1)\n"


def test_time_that_runs_out_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(_environments(tmp_path, test="sleep 60"), minutes=0.01)
    assert capsys.readouterr().out.startswith("ray: not finished in its time")
    assert (tmp_path / "ray.log").is_file()


def test_what_failed_before_time_ran_out_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _run(_environments(tmp_path, test='echo "tests/a.py::test_b FAILED [ 5%]"; sleep 60'), minutes=0.01)
    assert "ray: failed, and not finished in its time: tests/a.py::test_b" in capsys.readouterr().out


@pytest.mark.parametrize("minutes", [0, 2.9])
def test_hosts_without_time_are_left_out_and_reported(
    minutes: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    TOOL["main"](folder=str(_environments(tmp_path)), minutes=minutes)
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{host}: left out: no time left" for host in ("ray", "fl", "deploy", "label")]
    assert not (tmp_path / "calls").exists()


def test_a_host_that_takes_all_the_time_leaves_none_for_the_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _environments(tmp_path, test=f"sleep 1; {PASSES}")
    TOOL["main"]("ray", "label", folder=str(tmp_path), minutes=0.1, minutes_least=0.09)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("ray: passed") and second == "label: left out: no time left"


def test_a_host_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such host: itk \(expected one of ray, fl, deploy, label\)"):
        TOOL["main"]("ray", "itk", folder=str(tmp_path))
    assert not list(tmp_path.iterdir())

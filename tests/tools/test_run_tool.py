"""Tools take names as they are written, and say in a sentence what they cannot take."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from medad_plugins.command_line import run_tool

GOT: list[Any] = []


def tool(
    source: str,
    output_dir: str = "out",
    bundles: str | Iterable[str] = (),
    seeds: int | Iterable[int] = (),
    count: int = 3,
    share: float = 0.5,
    quick: bool = False,
) -> None:
    """A tool as those of the project are."""
    GOT.append((source, output_dir, bundles, seeds, count, share, quick))


def open_tool(bundle: str = "", **keys: Any) -> None:
    """A tool that hands further keys on."""
    GOT.append((bundle, keys))


def _run(monkeypatch: pytest.MonkeyPatch, function: Any, *arguments: str) -> Any:
    GOT.clear()
    monkeypatch.setattr("sys.argv", ["tool.py", *arguments])
    run_tool(function)
    (found,) = GOT
    return found


NAMES = [
    *("patients#2", "2023", "1e5", "True", "None", "a,b", "[x]", "(a, b)", "{a}", "{a: b}", "@x", "$x", "%x", "x y"),
    *("医院", "'q'", '"q"', "a\\b", "a=b", "~no-such-user", os.fsdecode(b"M\xfcller"), "007", "a\nb", "-"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, tool, "--source", name, f"--output-dir={name}")[:2] == (name, name)
    assert _run(monkeypatch, tool, name)[0] == name
    assert _run(monkeypatch, open_tool, name, "--ckpt_path", name) == (name, {"ckpt_path": name})


def test_a_tilde_is_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _run(monkeypatch, tool, "--source=~/scans")[0] == str(tmp_path / "scans")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--bundles", "edc,ae", "--seeds", "0,1"], (("edc", "ae"), (0, 1), 3, 0.5, False)),
        (["--bundles", "2023", "--count", "1e2"], (("2023",), (), 100, 0.5, False)),
        (["--bundles", "[a, b]", "--share", "1"], (("a", "b"), (), 3, 1.0, False)),
        (["--quick"], ((), (), 3, 0.5, True)),
        (["--quick", "true"], ((), (), 3, 0.5, True)),
        (["--quick", "false"], ((), (), 3, 0.5, False)),
    ],
)
def test_other_values_are_what_they_say(arguments: list[str], found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, tool, "x", *arguments)[2:] == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a value is missing: --source"),
        (["--source"], "a value is missing: --source"),
        (["--source", "-x"], "a value is missing: --source .*begins with a dash"),
        (["x", "--count", "many"], r"--count \(expected a whole number, found many"),
        (["x", "--count", "2.5"], r"--count \(expected a whole number, found 2.5"),
        (["x", "--share", "half"], r"--share \(expected a number, found half"),
        (["x", "--quick", "maybe"], r"--quick \(expected true or false, found maybe"),
        (["x", "--outptu_dir", "y"], "no such option: --outptu_dir .*did you mean --output_dir"),
        (["a", "b", "c", "0", "1", "2", "true", "more"], r"one value too many \(found more\)"),
    ],
)
def test_what_cannot_be_taken_is_a_sentence(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=rf"^error: .*{said}"):
        _run(monkeypatch, tool, *arguments)

"""How the tools in ``tools/`` meet the command line: one function each, its arguments as ``--name value``."""

from __future__ import annotations

import inspect
import io
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fire

from medad_plugins.arguments import given_values, is_text_key, suggestion, unnamed_values
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.files import home_path

__all__ = ["TRACEBACK_VARIABLE", "run_tool"]

TRACEBACK_VARIABLE = "MEDAD_TRACEBACK"
_FLAGS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}
_Reader = Callable[[str], Any]


def run_tool(function: Callable[..., Any]) -> None:
    """Call a function with the command line's arguments; what the user can mend is one sentence and exit status 1.

    An argument that is annotated as ``str`` is the text that was written, whatever it looks like, with the home folder
    for a leading ``~``; numbers and flags are checked. Log messages go to standard error as plain lines.
    ``MEDAD_TRACEBACK=1`` in the environment shows where an error came from.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        fire.Fire(function, command=_understood(function, sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped; what was finished is kept.")
    except Exception as error:
        found = find_input_error(error)
        if found is None or os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.exit(f"error: {found}")


def _understood(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """The command line such that Fire, which reads Python's literals, gives every argument what was written.

    Raises:
        InputError: an option is unknown, a value is missing or one too many, or it is no number or flag.
    """
    if {"--help", "-h", "--"} & set(arguments):
        return list(arguments)
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    named = {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    options = {**named, **{n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}}
    given = given_values(arguments)
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in given:
            if len(name) > 1 and name not in options and name.removeprefix("no") not in options:
                expected, todo = f"one of {', '.join(options)}", suggestion("--", name, options)
                raise InputError("there is no such option", where=f"--{name}", expected=expected, todo=todo)
    line = []
    free = iter([name for name in named if name not in given])
    for text in unnamed_values(arguments):
        place = next(free, None)
        if place is not None:
            line.append(f"--{place}={_read(text, place, options)}")
        elif inspect.Parameter.VAR_POSITIONAL in kinds:
            line.append(repr(text))
        else:
            raise InputError("there is one value too many", found=text, todo="write a name with spaces in quotes")
    if missing := [name for name in free if named[name].default is inspect.Parameter.empty]:
        raise InputError("a value is missing", where=f"--{missing[0]}", todo="see --help")
    for name, value in given.items():
        if value is None:
            is_name = _annotation(options[name]) == "str" if name in options else is_text_key(name)
            if is_name:
                todo = f"write --{name}=VALUE; a name that begins with a dash is written ./-name"
                raise InputError("a value is missing", where=f"--{name}", expected="a name", found="nothing", todo=todo)
            line.append(f"--{name}")
        else:
            line.append(f"--{name}={_read(value, name, options)}")
    return line


def _annotation(parameter: inspect.Parameter) -> str:
    found = parameter.annotation
    return found if isinstance(found, str) else inspect.formatannotation(found)


def _read(text: str, name: str, options: Mapping[str, inspect.Parameter]) -> str:
    """A value as a literal; what the function says nothing of is left to Fire, but for names."""
    read = _reader(name, _annotation(options[name])) if name in options else home_path if is_text_key(name) else None
    return text if read is None else repr(read(text))


def _reader(name: str, annotation: str) -> _Reader | None:
    """None leaves a value to Fire, which reads Python's literals."""
    if annotation == "str":
        return home_path
    if annotation.startswith("str | Iterable[str]"):
        return _names
    readers: dict[str, _Reader] = {"bool": _flag, "bool | str": _flag, "int": _whole, "float": float}
    read = readers.get(annotation)
    expected = {"int": "a whole number", "float": "a number"}.get(annotation, "true or false")

    def checked(text: str) -> Any:
        try:
            return read(text) if read is not None else None
        except (KeyError, ValueError) as error:
            raise InputError("a value cannot be used", where=f"--{name}", expected=expected, found=text) from error

    return None if read is None else checked


def _flag(text: str) -> bool:
    return _FLAGS[text.lower()]


def _whole(text: str) -> int:
    number = float(text)
    if number != number // 1:
        raise ValueError(text)
    return int(text) if text.lstrip("-").isdigit() else int(number)


def _names(text: str) -> tuple[str, ...]:
    """``a,b`` and ``[a, b]`` as names."""
    parts = text.strip("[]() ").split(",")
    return tuple(part.strip().strip("'\"") for part in parts if part.strip())

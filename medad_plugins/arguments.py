"""The text of a command line, before anybody takes what looks like a number or a list for one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

__all__ = ["given_values", "is_path_key", "is_text_key", "suggestion", "unnamed_values"]

# keys whose values are names, whatever they look like
_TEXT_KEYS = {
    *("datalist", "unlabelled_list", "reference_list", "where", "split", "normals", "labels", "group"),
    *("weights", "contrast", "guarded", "layer"),
}
_TEXT_ENDS = ("_dir", "_path", "_file", "_folder", "_root")


def is_text_key(key: str) -> bool:
    """Whether a key's values are names of files, folders, splits or the like."""
    return key in _TEXT_KEYS or is_path_key(key)


def is_path_key(key: str) -> bool:
    """Whether a key's values are paths and nothing else, e.g. no names of known weights."""
    return key.endswith(_TEXT_ENDS)


def given_values(arguments: Sequence[str]) -> dict[str, str | None]:
    """The ``--key value`` and ``--key=value`` of a command line as text, None where a key has no value.

    Example:
        >>> given_values(["run", "--dataset_dir", "patients#2", "--alpha=0.1", "--resume"])
        {'dataset_dir': 'patients#2', 'alpha': '0.1', 'resume': None}
    """
    return _sorted_out(arguments)[0]


def unnamed_values(arguments: Sequence[str]) -> list[str]:
    """What stands on a command line without a name.

    Example:
        >>> unnamed_values(["br35h", "--source", "scans", "list.csv"])
        ['br35h', 'list.csv']
    """
    return _sorted_out(arguments)[1]


def _sorted_out(arguments: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    found: dict[str, str | None] = {}
    unnamed: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not _is_flag(argument):
            unnamed.append(argument)
            continue
        name, equals, attached = argument.lstrip("-").partition("=")
        value: str | None = attached
        if not equals:
            value = None if not waiting or _is_flag(waiting[0]) else waiting.pop(0)
        found[name.replace("-", "_")] = value
    return found, unnamed


def _is_flag(argument: str) -> bool:
    return argument.startswith("--") or re.match("-[a-zA-Z]", argument) is not None


def suggestion(prefix: str, key: str, known: Iterable[str]) -> str | None:
    """What a misspelt key may have been meant for."""
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"did you mean {prefix}{close[0]}" if close else None

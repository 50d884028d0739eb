"""Values that come with a request: plain ones only, for a bundle's configuration runs what looks like code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException

from medad_plugins.errors import InputError, find_input_error

__all__ = ["plain_value", "refusals"]

_CODE = frozenset("$@%")  # what MONAI's configurations evaluate, look up or read from another file


def plain_value(name: str, value: Any) -> Any:
    """A number, truth value, list of numbers, or text that means nothing to a configuration.

    Args:
        name: of the value in the request.
        value: as it came; viewers send numbers as text.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = value.strip()
    parts = value if isinstance(value, list) else [value]
    if all(isinstance(part, (bool, int, float)) for part in parts):
        return value
    if isinstance(value, str) and not _CODE & set(value):
        return value
    raise InputError("a value of the request cannot be used", where=name, expected="a number or plain text")


@contextmanager
def refusals() -> Iterator[None]:
    """Answer what the user can mend with status 422 and its sentence, in place of "Internal Server Error".

    The sentence's advice is for this host: without flags of the command line.
    """
    try:
        yield
    except Exception as error:
        found = find_input_error(error)
        if found is None:
            raise
        raise HTTPException(status_code=422, detail=_for_requests(found)) from error


def _for_requests(error: InputError) -> str:
    """The error's sentence, with parameters of a request in place of the command line's flags."""
    named = {key: getattr(error, key) for key in ("where", "expected", "found", "todo")}
    words = {key: re.sub(r"--(\w+)", r"\1", str(text)) for key, text in named.items() if text is not None}
    if re.search(r"monai\.bundle|--(?!alpha|device|model_filename)\w", str(named["todo"])):
        words["todo"] = "ask whoever runs this server"
    return str(InputError(re.sub(r"--(\w+)", r"\1", error.what), **words))

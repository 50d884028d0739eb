"""Reading the CSV files that data sets come with."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from medad_plugins.errors import InputError

__all__ = ["read_number", "read_table"]


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV (comma, semicolon or tab) as text by column, blank lines left out.

    Raises:
        InputError: the file is no UTF-8 text or empty, lacks a column, or a row is shorter than the header. Values are
            never repeated: they may identify patients.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        found = type(error).__name__
        raise InputError("the table cannot be read", where=path, expected="a CSV in UTF-8", found=found) from error
    header = text.lstrip().split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=max(",;\t", key=header.count))
    names = [name.strip() for name in next(reader, [])]
    missing = [name for name in columns if name not in names]
    if missing:
        todo = "use the file as published"
        found = ", ".join(names)[:100] or "an empty file"
        expected = f"column {', '.join(missing)}"
        raise InputError("the table lacks a column", where=path, expected=expected, found=found, todo=todo)
    rows = []
    for number, values in enumerate(reader, start=2):
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(names):
            where, todo = f"{path}, row {number}", "download the file again"
            expected, found = f"{len(names)} values", str(len(values))
            raise InputError(
                "a row has another length than the header", where=where, expected=expected, found=found, todo=todo
            )
        rows.append(dict(zip(names, (value.strip() for value in values), strict=True)))
    if not rows:
        raise InputError("the table has no rows", where=path, todo="download the file again")
    return rows


def read_number(text: str, path: Path, column: str) -> float:
    """A number of a table.

    Raises:
        InputError: the text is none.
    """
    try:
        return float(text)
    except ValueError as error:
        raise InputError("a value of the table is not a number", where=f"{path}, column {column}") from error

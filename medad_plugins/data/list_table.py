"""The text of a list, and the rows of one that a spreadsheet or a script wrote."""

from __future__ import annotations

import codecs
import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from medad_plugins.errors import InputError

__all__ = ["list_text", "table_rows"]

logger = logging.getLogger(__name__)

# UTF-32 first, for its mark begins with that of UTF-16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_WORKBOOKS = {b"PK\x03\x04": "an Excel or OpenDocument workbook", b"\xd0\xcf\x11\xe0": "an Excel workbook"}
_DELIMITERS = ",;\t|"
_COMMENT = "#"


def list_text(path: Path) -> str:
    """A list's text, whatever of the usual encodings it is in: UTF-8, UTF-16, UTF-32, else Windows-1252.

    Raises:
        InputError: it may not be read, or is no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise InputError("the datalist may not be read", where=path, found=found, todo="check the file") from error
    for mark, kind in _WORKBOOKS.items():
        if content.startswith(mark):
            todo = "save it as CSV"
            raise InputError("the datalist is no text", where=path, expected="CSV or JSON", found=kind, todo=todo)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "") or _unmarked(content)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        # cp1252 leaves five bytes out, which latin-1 has
        text = content.decode("cp1252", "replace") if encoding == "utf-8" else ""
        if text and "\ufffd" not in text:
            logger.warning("%s is not UTF-8 and was read as Windows-1252; save it as UTF-8.", path)
    if "\0" in text or "\ufffd" in text or (content and not text):
        raise InputError("the datalist cannot be read", where=path, expected="UTF-8 text", todo="save it as UTF-8")
    return text


def _unmarked(content: bytes) -> str:
    """UTF-16 without a mark shows by the zero bytes of its ASCII letters."""
    start = content[:200]
    even, odd = start[::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 4:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"


def table_rows(path: Path, known: Sequence[str], expected: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The rows of a CSV with a header, each with where it stands.

    Values are separated by comma, semicolon, tab or bar, as the header is; Excel's ``sep=;`` counts. Blank lines and
    lines that begin with ``#`` are no rows; how many of the latter were left out is logged.

    Args:
        path: the file.
        known: columns whose names are lower case whatever their spelling.
        expected: columns to name where there is no ``image``.

    Raises:
        InputError: no column ``image``, two columns of one name, a row with more values than the header, a quote that
            is left open.
    """
    delimiter, lines, first = _header_place(list_text(path))
    with _fields_of_any_length():
        table = list(_parsed(lines, delimiter, path, first))
    columns = [name.strip() for name in (table[0][1] if table else [])]
    columns = [name.lower() if name.lower() in known else name for name in columns]
    found = ", ".join(columns)[:100] or "nothing"
    if "image" not in columns:
        raise InputError("the datalist has no column image", where=path, expected=expected, found=found)
    if any(columns.count(name) > 1 for name in columns if name):
        raise InputError("the datalist has two columns of one name", where=path, found=found)
    comments = 0
    for number, all_values in table[1:]:
        where = f"{path}, row {number}"
        values = _without_empty_end(all_values, len(columns))
        if values and values[0].lstrip().startswith(_COMMENT) and not (path.parent / values[0].strip()).exists():
            comments += 1
            continue
        if len(values) > len(columns):
            todo = "quote values that contain the separator"
            wanted, count = f"{len(columns)} values", len(values)
            raise InputError("a row is longer than the header", where=where, expected=wanted, found=count, todo=todo)
        if any(value.strip() for value in values):
            yield where, dict.fromkeys(columns, "") | dict(zip(columns, values, strict=False))
    if comments:
        logger.warning("%s: %d lines that begin with # were left out.", path, comments)


def _header_place(text: str) -> tuple[str, str, int]:
    """The separator, the text from the header on, and the number of the header's line."""
    lines = io.StringIO(text, newline="").readlines()
    given = ""
    for number, line in enumerate(lines, start=1):
        bare = line.strip().strip("".join(_DELIMITERS))
        if bare[:4].lower() == "sep=":
            given = line.strip()[4:5]
        elif bare and not bare.lstrip('"').startswith(_COMMENT):
            header = line.lstrip(" ")
            return given or max(_DELIMITERS, key=header.count), "".join([header, *lines[number:]]), number
    return ",", "", 1


@contextmanager
def _fields_of_any_length() -> Iterator[None]:
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _parsed(text: str, delimiter: str, path: Path, first: int) -> Iterator[tuple[int, list[str]]]:
    """Rows with the numbers of their lines.

    Raises:
        InputError: a quote is left open, so that rows would become one.
    """
    # strict: an open quote would otherwise swallow all rows up to the next quote without a word
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True
    )
    before = 0
    while True:
        start = first + before
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _open_quote(path, start) from error
        before = reader.line_num
        # a note may go over several lines, but none of these is a row
        for value in values:
            if any(delimiter in line for line in value.splitlines()[1:]):
                raise _open_quote(path, start)
        yield start, values


def _open_quote(path: Path, line: int) -> InputError:
    todo = 'write "" for a quote within quotes'
    return InputError("a quote is left open or misplaced", where=f"{path}, row {line}", todo=todo)


def _without_empty_end(values: list[str], length: int) -> list[str]:
    """Without the empty values that separators at the end of a line make."""
    while len(values) > length and not values[-1].strip():
        values = values[:-1]
    return values

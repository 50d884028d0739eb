"""The one error that users meet."""

from __future__ import annotations

import pytest

from medad_plugins.errors import InputError, find_input_error


def test_a_sentence_of_all_parts() -> None:
    error = InputError("label is not 0 or 1", where="list.csv", expected="0 or 1", found=2, todo="correct it")
    assert str(error) == "label is not 0 or 1: list.csv (expected 0 or 1, found 2); correct it."
    assert (error.what, error.where, error.expected, error.found, error.todo) == (
        "label is not 0 or 1",
        "list.csv",
        "0 or 1",
        2,
        "correct it",
    )
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "it is wrong."),
        ({"where": "here"}, "it is wrong: here."),
        ({"expected": 0}, "it is wrong (expected 0)."),
        ({"found": ""}, "it is wrong (found )."),
        ({"todo": "mend it"}, "it is wrong; mend it."),
        ({"where": "here", "found": 3}, "it is wrong: here (found 3)."),
    ],
)
def test_missing_parts_leave_no_trace(parts: dict[str, str], text: str) -> None:
    assert str(InputError("it is wrong", **parts)) == text


def test_found_through_causes_and_contexts() -> None:
    own = InputError("it is wrong")
    with pytest.raises(RuntimeError) as raised:
        try:
            try:
                raise own
            except InputError:
                raise KeyError("while handling") from None
        except KeyError as error:
            error.__suppress_context__ = False
            raise RuntimeError("applying transform") from error
    assert find_input_error(raised.value) is own
    assert find_input_error(own) is own


def test_nothing_to_find_ends_also_in_a_circle() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__context__ = second, first
    assert find_input_error(first) is None
    assert find_input_error(ValueError("plain")) is None

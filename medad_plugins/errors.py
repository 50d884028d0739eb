"""The one error that users of a bundle meet: a sentence that says what is wrong and what to do."""

from __future__ import annotations

__all__ = ["InputError", "find_input_error", "printable"]


def printable(text: str) -> str:
    r"""The text with bytes of file names that are no UTF-8 as ``\xfc``, so that any file or terminal takes it.

    Example:
        >>> import os
        >>> printable(os.fsdecode(b"M\xfcller.png"))
        'M\\xfcller.png'
    """
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return "".join(_printed(character) for character in text)


def _printed(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python reads such a byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1] if "\ud800" <= character <= "\udfff" else character


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence that needs no traceback.

    Args:
        what: what is wrong, in a few words, e.g. ``"the image cannot be read"``.
        where: the file, folder, case or key it was found in.
        expected: what was expected there.
        found: what was found instead.
        todo: what to do about it, as an imperative.

    Example:
        >>> str(InputError("label is not 0 or 1", where="list.csv, row 3", expected="0 or 1", found="2", todo="fix it"))
        'label is not 0 or 1: list.csv, row 3 (expected 0 or 1, found 2); fix it.'
    """

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        found: object = None,
        todo: str | None = None,
    ) -> None:
        self.what, self.where, self.expected, self.found, self.todo = what, where, expected, found, todo
        text = what if where is None else f"{what}: {where}"
        details = [f"{name} {value}" for name, value in (("expected", expected), ("found", found)) if value is not None]
        text += f" ({', '.join(details)})" if details else ""
        text += f"; {todo}" if todo else ""
        super().__init__(printable(text + "."))


def find_input_error(error: BaseException) -> InputError | None:
    """The `InputError` that an exception is, was raised from or was raised while handling; None where there is none.

    MONAI wraps what a transform raises into RuntimeErrors, one for each level of composition.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        link = pending.pop(0)
        if link is None or id(link) in seen:
            continue
        if isinstance(link, InputError):
            return link
        seen.add(id(link))
        pending += [link.__cause__, link.__context__]
    return None

"""The optional package highdicom, which writes the objects."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.config import disable_value_validation

from medad_plugins.errors import InputError

__all__ = ["highdicom", "silent_about_headers"]


def highdicom() -> Any:
    """The package, imported when first needed.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("highdicom")
    except ImportError as error:
        todo = "install it with `pip install highdicom`"
        raise InputError("DICOM results need the package highdicom", todo=todo) from error


@contextmanager
def silent_about_headers() -> Iterator[None]:
    """While headers are read and copied, nothing prints their values.

    highdicom logs identifiers, and both it and pydicom warn of invalid values with the values.
    """
    log = logging.getLogger("highdicom")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)

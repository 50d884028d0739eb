"""How the tools in ``tools/`` meet the command line: one function each, its arguments as ``--name value``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import fire

from medad_plugins.errors import find_input_error

__all__ = ["TRACEBACK_VARIABLE", "run_tool"]

TRACEBACK_VARIABLE = "MEDAD_TRACEBACK"


def run_tool(function: Callable[..., Any]) -> None:
    """Call a function with the command line's arguments; what the user can mend is one sentence and exit status 1.

    Log messages go to standard error as plain lines. ``MEDAD_TRACEBACK=1`` in the environment shows where an error
    came from.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        fire.Fire(function)
    except KeyboardInterrupt:
        sys.exit("stopped; what was finished is kept.")
    except Exception as error:
        found = find_input_error(error)
        if found is None or os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.exit(f"error: {found}")

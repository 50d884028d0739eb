"""Which configuration an expression of it is being evaluated for.

MONAI gives an expression such as ``$find_root()`` neither its workflow nor its file, a ``%file`` macro resolves against
the working folder, and hosts read the file as it is. So the call stack is searched; MONAI 1.6.1 has no better hook.
"""

from __future__ import annotations

import inspect
from typing import TypeVar

from monai.bundle import ConfigParser, ConfigWorkflow

__all__ = ["running_config"]

_Kind = TypeVar("_Kind", ConfigWorkflow, ConfigParser)


def running_config(kind: type[_Kind]) -> _Kind | None:
    """The MONAI workflow or parser that is evaluating the configuration this is called from, if one is."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, kind):
            return owner
        frame = frame.f_back
    return None

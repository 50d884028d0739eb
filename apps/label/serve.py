"""Starts the MONAI Label server, with all of ``monailabel``'s own arguments.

    python apps/label/serve.py start_server --studies SCANS --conf models bundles/padim

It is ``monailabel`` but for three things: it starts beside pydicom 3, ``--app`` is this folder if not given, and
``--host`` is this machine alone if not given.
"""

from __future__ import annotations

import sys
from pathlib import Path

import medad_label  # noqa: F401 - first, for what it does to let MONAI Label start

__all__ = ["serve"]


def serve(arguments: list[str]) -> None:
    """Run ``monailabel`` with these arguments, completed by an app and a host where it starts a server."""
    from monailabel.main import Main

    if "start_server" in arguments:
        if not {"-a", "--app"} & set(arguments):
            arguments = [*arguments, "--app", str(Path(__file__).resolve().parent)]
        if not {"-i", "--host"} & set(arguments):
            arguments = [*arguments, "--host", "127.0.0.1"]
    sys.argv[1:] = arguments
    Main().run()


if __name__ == "__main__":
    serve(sys.argv[1:])

"""Run the application: python apps/deploy --input STUDY --output RESULTS --model BUNDLE."""

from __future__ import annotations

import logging
import os
import sys


def main() -> None:
    """Run once; what the user can mend is one sentence and exit status 1."""
    tracing = bool(os.environ.get("MEDAD_TRACEBACK"))
    if not tracing:
        # the native runtime prints the traceback of whatever a step raises, before the sentence
        os.environ.setdefault("HOLOSCAN_LOG_LEVEL", "OFF")
    try:
        from anomaly_app import AnomalyApp
        from monai.deploy.core import Application
    except ImportError as error:
        sys.exit(f"error: the application needs MONAI Deploy's App SDK ({error}); see docs/monai_deploy.md.")

    from medad_plugins.errors import find_input_error

    context = Application.init_app_context(sys.argv)
    logging.getLogger().setLevel(logging.INFO)
    try:
        AnomalyApp(context).run()
    except Exception as error:
        found = find_input_error(error)
        if found is None or tracing:
            raise
        sys.exit(f"error: {found}")


if __name__ == "__main__":
    main()

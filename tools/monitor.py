"""Watch a model where it is used: one page from the results of weeks.

    python tools/monitor.py week1 week2 week3 --model bundles/padim/models/model.pt
    python tools/monitor.py january.csv february.csv march.csv       # compared with the first

Each table is a results.csv (or the folder that holds it) in the order of time. Where scans have labels, only those that
are known to be normal (label 0) are watched.
"""

from __future__ import annotations

import sys

from medad_plugins.command_line import run_tool
from medad_plugins.deployment import Reference, read_results, watch
from medad_plugins.deployment.monitor_page import verdicts, write_monitor_page
from medad_plugins.errors import InputError


def main(*results: str, model: str = "", output_file: str = "monitor.html", false_alarms: float = 1e-4) -> None:
    """Write the page; the exit status is 3 where an alarm went off.

    Args:
        results: tables of results, or folders with one.
        model: its normal scans are the reference; without it, the first table is.
        output_file: of the page.
        false_alarms: probability of any alarm, ever, while nothing has changed.
    """
    if not results:
        raise InputError("there is nothing to watch", todo="give results.csv files, see tools/monitor.py --help")
    tables = [read_results(str(path)) for path in results]
    watched = watch(tables, Reference.of_model(model) if model else None, false_alarms)
    write_monitor_page(output_file, watched)
    print("\n".join([*verdicts(watched), *watched.remarks, f"page: {output_file}"]))
    if any(watched.alarm_at(figure) for figure in watched.alarms):
        sys.exit(3)


if __name__ == "__main__":
    run_tool(main)

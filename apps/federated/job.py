"""Train one bundle on the scans of several hospitals, by NVFlare; the scans stay where they are.

    pip install 'medad-plugins[fl]'
    python apps/federated/job.py bundles/padim --sites sites.json --output_dir FEDERATED
    python apps/federated/job.py /opt/bundles/padim --sites sites.json --job_dir jobs/padim

The first command runs all sites on this machine, in NVFlare's simulator; the second writes the job that a federation of
real sites is given. Every plain key of the bundle's train.yaml works here too, e.g. --image_size 128 or --weights none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medad_plugins.command_line import run_tool
from medad_plugins.errors import InputError
from medad_plugins.federated import simulate, write_job


def main(
    bundle: str = "", sites: str = "", output_dir: str = "", job_dir: str = "", rounds: int = 5, **keys: Any
) -> None:
    """Simulate a federation, or write its job.

    Args:
        bundle: the bundle's folder; of a job, where it is at the sites and the server.
        sites: JSON file with an entry for each site: its dataset_dir and other keys that are its own.
        output_dir: folder for all that the simulation writes.
        job_dir: folder for the job instead.
        rounds: how often the sites' networks become one; methods that are fitted in one pass take one.
        keys: of the bundle's train.yaml, the same for all.
    """
    for name, value in (("bundle", bundle), ("sites", sites), ("output_dir", output_dir or job_dir)):
        if not value:
            raise InputError("a path is missing", where=f"--{name}", todo="see apps/federated/job.py --help")
    if output_dir and job_dir:
        raise InputError("a federation is simulated or its job written", todo="give --output_dir or --job_dir")
    listed = read_sites(sites)
    if job_dir:
        print(f"job in {write_job(job_dir, bundle, listed, rounds, keys)}")
    else:
        print(f"model in {simulate(output_dir, bundle, listed, rounds, keys)}")


def read_sites(path: str) -> dict[str, dict[str, Any]]:
    """The sites and their keys.

    Raises:
        InputError: the file cannot be read, or is something else.
    """
    form = '{"hospital_a": {"dataset_dir": "/data/a"}, ...}'
    try:
        content = json.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("the list of sites cannot be read", where=path, expected=form, found=str(error)) from error
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise InputError("the list of sites cannot be read", where=path, expected=form)
    return content


if __name__ == "__main__":
    run_tool(main)

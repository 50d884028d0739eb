"""A job of NVFlare: for the simulator on one machine, or to be submitted to a federation of real sites."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medad_plugins.errors import InputError
from medad_plugins.federated.messages import STEPS
from medad_plugins.files import output_folder, write_json

__all__ = ["simulate", "write_job"]

SERVER = "server"
ALLOWED_CLASSES = {"class_allow_list": [f"{__package__}."]}
_FILTERS: dict[str, Any] = {"task_data_filters": [], "task_result_filters": [], "components": []}
# what the entry of a site may hold beside keys of train.yaml
_BUNDLE, _LEAST = "bundle_root", "least_cases"


def write_job(
    folder: str | os.PathLike[str],
    bundle_root: str | os.PathLike[str],
    sites: Mapping[str, Mapping[str, Any]],
    rounds: int = 5,
    keys: Mapping[str, Any] | None = None,
) -> Path:
    """Write a job: names, paths and numbers, no code and no bundle, for these are installed at every site.

    Args:
        folder: of the job; its name is the job's.
        bundle_root: the bundle's folder, on every machine whose entry does not give another.
        sites: keys of the bundle's ``train.yaml`` for each site by its name, ``dataset_dir`` first of all; beside them
            ``bundle_root`` and ``least_cases``. An entry ``server`` is for the server.
        rounds: of training.
        keys: of ``train.yaml``, for all sites and the server.

    Raises:
        InputError: there is no site, a name cannot be used, or the folder cannot be written.
    """
    names = [name for name in sites if name != SERVER]
    if not names:
        raise InputError("there is no site", where="sites", expected="at least one beside the server")
    for name in names:
        # a folder is named after it, and NVFlare takes lists with commas
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            raise InputError("a site's name cannot be used", where=name, expected="letters, digits, _, . and -")
    folder = output_folder(folder)
    common = dict(keys or {})
    server = {**common, **sites.get(SERVER, {})}
    if any(sites[name].get("dataset_dir") for name in names):
        # some defaults of a bundle depend on whether there is a data folder; the server opens none
        server.setdefault("dataset_dir", "the sites' own")
    arguments = {"bundle_root": str(server.pop(_BUNDLE, bundle_root)), "sites": names, "rounds": rounds, "keys": server}
    workflow = {"id": "federation", "path": f"{__package__}.nvflare_server.FederationController", "args": arguments}
    _write_app(folder / "app_server", "server", {"workflows": [workflow]})
    for name in names:
        own = {**common, **sites[name]}
        arguments = {"bundle_root": str(own.pop(_BUNDLE, bundle_root))}
        arguments |= {_LEAST: own.pop(_LEAST)} if _LEAST in own else {}
        executor = {"path": f"{__package__}.nvflare_site.SiteExecutor", "args": {**arguments, "keys": own}}
        _write_app(folder / f"app_{name}", "client", {"executors": [{"tasks": list(STEPS), "executor": executor}]})
    meta = {
        "name": folder.name,
        "resource_spec": {},
        "min_clients": len(names),
        "mandatory_clients": names,
        "deploy_map": {"app_server": [SERVER], **{f"app_{name}": [name] for name in names}},
    }
    write_json(folder / "meta.json", meta)
    return folder


def _write_app(folder: Path, side: str, content: Mapping[str, Any]) -> None:
    config = output_folder(folder / "config")
    write_json(config / f"config_fed_{side}.json", {"format_version": 2, **content, **_FILTERS})


def simulate(
    output_dir: str | os.PathLike[str],
    bundle_root: str | os.PathLike[str],
    sites: Mapping[str, Mapping[str, Any]],
    rounds: int = 5,
    keys: Mapping[str, Any] | None = None,
) -> Path:
    """Run a federation in NVFlare's simulator: every site a process of this machine.

    Args:
        output_dir: folder for all: the model is ``server/models/model.pt``, every site has a folder of its name.
        bundle_root: the bundle's folder.
        sites: see `write_job`.
        rounds: of training.
        keys: see `write_job`.

    Returns:
        the server's model file.

    Raises:
        InputError: NVFlare is not installed, or the federation did not come to an end.
    """
    if importlib.util.find_spec("nvflare") is None:
        raise InputError("NVFlare is not installed", todo="pip install 'medad-plugins[fl]'")
    output = output_folder(os.path.abspath(output_dir))
    own = {SERVER: {}, **sites}
    placed = {
        name: {
            "ckpt_path": str(output / name / "models" / "model.pt"),
            "output_dir": str(output / name / "output"),
            **_absolute(entry),
        }
        for name, entry in own.items()
    }
    models = {name: Path(entry["ckpt_path"]) for name, entry in placed.items()}
    before = {name: _written_at(path) for name, path in models.items()}
    job = write_job(output / "job", os.path.abspath(bundle_root), placed, rounds, keys)
    names = [name for name in own if name != SERVER]
    simulator = [sys.executable, "-m", "nvflare.private.fed.app.simulator.simulator", str(job)]
    workspace = output / "workspace"
    # as every real site says in its own file: the classes that a job may name
    write_json(output_folder(workspace / "local") / "resources.json", {"format_version": 2, **ALLOWED_CLASSES})
    done = subprocess.run(
        [*simulator, "-w", str(workspace), "-c", ",".join(names), "-t", str(len(names))], check=False, cwd=output
    )
    # the sites keep the model last
    unfinished = [name for name, path in models.items() if _written_at(path) == before[name]]
    if done.returncode or unfinished:
        found = f"no new model at {', '.join(unfinished)}" if unfinished else f"exit status {done.returncode}"
        todo = "read what went wrong above, or in the logs there"
        raise InputError("the federation did not come to an end", where=workspace, found=found, todo=todo)
    return models[SERVER]


def _written_at(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _absolute(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with paths that do not depend on the folder that NVFlare works in."""
    paths = ("bundle_root", "dataset_dir", "ckpt_path", "output_dir")
    return {name: os.path.abspath(value) if name in paths and value else value for name, value in entry.items()}

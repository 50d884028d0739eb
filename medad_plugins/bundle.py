"""What every bundle does before its work begins: find its folder, check its keys, fix its seed, say what it will do."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import set_determinism

from medad_plugins.command_line import TRACEBACK_VARIABLE
from medad_plugins.engines import join_ranks
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.inferers import said_precision
from medad_plugins.manifest import MANIFEST, Manifest
from medad_plugins.running_config import running_config
from medad_plugins.versions import require_bundle_fits

__all__ = ["announce", "begin", "find_root", "inference_workflow"]

logger = logging.getLogger(__name__)

# what MONAI adds to a configuration for ``--tracking``
TRACKING_KEYS = {"tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0"}


def _is_bundle(folder: Path) -> bool:
    return (folder / "configs" / "metadata.json").is_file()


def find_root() -> str:
    """Absolute path of the bundle whose configuration is being evaluated, from whatever folder it is run.

    Known by the workflow that reads the configuration; for MONAI's other commands by ``--config_file`` on the command
    line, else by the working folder, else by the first folder of Python's search path. Hosts set the key
    ``bundle_root`` themselves.

    Raises:
        InputError: if none of them is a bundle.
    """
    workflow = running_config(ConfigWorkflow)
    if workflow is not None:
        return str(Path(workflow.config_root_path).resolve().parent)
    for argument, value in zip(sys.argv, [*sys.argv[1:], ""]):
        name, _, attached = argument.partition("=")
        if name == "--config_file":
            folder = Path(attached or value).resolve().parent.parent
            if _is_bundle(folder):
                return str(folder)
    # MONAI Deploy's operator adds its folder to Python's search path only
    for folder in (Path.cwd(), *map(Path, sys.path[:1])):
        if _is_bundle(folder):
            return str(folder.resolve())
    raise InputError("the bundle's folder cannot be found from here", todo="give it as --bundle_root")


def _print_input_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print the sentence of an `InputError` alone; anything else as Python does."""
    found = find_input_error(error)
    if found is not None:
        print(f"error: {found}", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("stopped; the same command with --resume true continues a training.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


def _read_along(folder: Path, content: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The folder's configurations, but for ``names``, that were read into ``content`` too: all of their keys are there.

    A federated client reads several of a bundle's configurations into one.
    """
    paths = sorted(folder.glob("*.yaml"))
    others = [ConfigParser.load_config_file(path) for path in paths if path.stem not in names]
    return [other for other in others if other.keys() <= content.keys()]


def _refuse_unknown_keys(workflow: ConfigWorkflow, names: Sequence[str]) -> None:
    """A misspelt ``--key`` would otherwise be ignored without a word."""
    folder = Path(workflow.config_root_path)
    known: dict[str, Any] = {}
    for name in names:
        known.update(ConfigParser.load_config_file(folder / f"{name}.yaml"))
    content = workflow.parser.get()
    unknown = [key for key in content if key not in known and key != "_meta_"]
    others = _read_along(folder, content, names) if unknown else []
    for key in unknown:
        if key not in TRACKING_KEYS and not any(key in other for other in others):
            raise InputError(
                "this bundle has no such key",
                where=f"--{key}",
                expected=f"one of {', '.join(k for k, v in known.items() if not isinstance(v, (dict, list)))}",
                todo=_suggestion("--", key, known),
            )
    parts, own = content.get("train"), known.get("train")
    if isinstance(parts, dict) and isinstance(own, dict):
        for key in parts.keys() - own.keys():
            # no error, for hosts put parts of their own there
            hint = _suggestion("--train::", key, own)
            logger.warning("--train::%s is not read by this bundle%s.", key, f"; {hint}" if hint else "")


def _suggestion(prefix: str, key: str, known: Mapping[str, Any]) -> str | None:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {prefix}{close[0]}" if close else None


def _report_edited_configs(root: Path) -> None:
    """Say which configurations of a packaged bundle are no longer what was packaged."""
    manifest = Manifest.of_bundle(root)
    edited = [] if manifest is None else manifest.edited("configs")
    if edited:
        # no error: to be edited is what a configuration is for, but hosts may read the twin of the file that was
        listed = ", ".join(edited)
        logger.warning("%s: not as packaged (%s). Change .yaml and .json alike: hosts read either.", listed, MANIFEST)


def begin(*names: str, seed: int = 0, device: str | torch.device | None = None) -> None:
    """First step of a configuration: one-sentence errors, a fitting version, known keys only, a fixed seed.

    Args:
        names: the configuration's name, e.g. ``"train"``, and those whose keys it takes too.
        seed: of all random numbers.
        device: what it computes on, to join the processes of ``torchrun``, see `join_ranks`; None does without.

    Raises:
        InputError: the bundle needs another version of this package, or a key is none of the configuration's.
    """
    if Path(sys.argv[0]).parts[-3:-1] == ("monai", "bundle") and not os.environ.get(TRACEBACK_VARIABLE):
        sys.excepthook = _print_input_error
    workflow = running_config(ConfigWorkflow)
    if workflow is not None:
        root = Path(workflow.config_root_path).parent
        require_bundle_fits(root)
        _refuse_unknown_keys(workflow, names)
        _report_edited_configs(root)
        # found now, because hosts may later query the parser when no workflow exists
        workflow.parser.get_parsed_content("bundle_root")
    set_determinism(seed)
    if device is not None:
        join_ranks(device)


def announce(bundle: str, cohort: Any, facts: Mapping[str, Any], **settings: Any) -> None:
    """Say what a run is about: which data, how many normal cases, which scale, which weights.

    It comes before the network is built: MONAI's loaders seed PyTorch's generator when they are created, so what
    is created before them decides the random numbers of the training.

    Args:
        bundle: its name, and that of the configuration if it is not the training.
        cohort: a `medad_plugins.data.Cohort`.
        facts: what to say of the method, in order; ``weights`` none gives a warning.
        settings: what every training has, by key; of ``precision`` it is said what ``auto`` means on the ``device``.
    """
    if "precision" in settings and "device" in settings:
        settings["precision"] = said_precision(settings["precision"], settings["device"])
    for line in cohort.describe().splitlines():
        logger.info("%s on %s", bundle, line)
    said = {**facts, **{key.removeprefix("max_").replace("_", " "): value for key, value in settings.items()}}
    listed = ", ".join(f"{name} {value}" for name, value in said.items())
    logger.info("%s: %s; a time estimate follows.", bundle, listed)
    if str(facts.get("weights", "given")).lower() in ("none", ""):
        logger.warning("%s starts from random weights (--weights none): fine to try it, not to trust it.", bundle)


def inference_workflow(bundle_root: str | Path, name: str = "evaluate") -> ConfigWorkflow:
    """The bundle's inference as an initialised workflow, with the keys of the configuration that uses it.

    Every value of that configuration, if not null, replaces the one that ``inference.yaml`` has by this name.

    Args:
        bundle_root: the bundle's folder.
        name: that configuration's name.
    """
    path = Path(bundle_root) / "configs" / "inference.yaml"
    running = running_config(ConfigParser)
    own = {} if running is None else running.get()
    shared = {key: own[key] for key in ConfigParser.load_config_file(path) if own.get(key) is not None}
    for key in ("imports", "initialize", "run", "bundle_root"):
        shared.pop(key, None)
    # what that configuration takes from this very workflow
    shared = {key: value for key, value in shared.items() if "@inference." not in str(value)}
    if running is not None:
        # how the training was set up, where train.yaml was read along, does not apply to the inference
        needed = ConfigParser.load_config_file(path.with_name(f"{name}.yaml"))
        others = _read_along(path.parent, own, [name])
        shared = {k: v for k, v in shared.items() if k in needed or not any(o.get(k) == v for o in others)}
    workflow = ConfigWorkflow(
        config_file=str(path), workflow_type="infer", logging_file=False, bundle_root=str(bundle_root), **shared
    )
    workflow.initialize()
    return workflow

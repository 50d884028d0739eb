"""What every bundle does before its work begins: find its folder, check its keys, fix its seed, say what it will do."""

from __future__ import annotations

import atexit
import inspect
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run
from monai.utils import set_determinism

from medad_plugins.arguments import given_values, is_text_key, suggestion
from medad_plugins.claims import claim_folder
from medad_plugins.command_line import TRACEBACK_VARIABLE
from medad_plugins.engines import join_ranks
from medad_plugins.errors import InputError, find_input_error
from medad_plugins.files import output_folder
from medad_plugins.inferers import said_precision
from medad_plugins.key_values import as_written, require_device, settle_values, unknown_key
from medad_plugins.manifest import MANIFEST, Manifest
from medad_plugins.running_config import running_config
from medad_plugins.versions import require_bundle_fits

__all__ = ["announce", "begin", "find_root", "inference_workflow", "method_of"]

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


def method_of(root: str | Path) -> str:
    """The name of a bundle's method, as its models bear it, whatever its folder has been renamed to.

    Raises:
        InputError: the folder is no bundle.
    """
    path = Path(root) / "configs" / "inference.yaml"
    try:
        name = ConfigParser.load_config_file(path)["model"]["bundle"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("the folder is not a bundle", where=path, todo="give the bundle's own folder") from error
    return str(name)


class _Terminated(KeyboardInterrupt):
    """The process was asked to end: half-written files are removed on the way out, as after Ctrl-C."""


def _terminate(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise _Terminated


def _print_input_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print the sentence of an `InputError` alone; anything else as Python does."""
    found = find_input_error(error) or _set_up_error(error, traceback)
    if found is not None:
        print(f"error: {found}", file=sys.stderr)
    elif issubclass(kind, KeyboardInterrupt):
        print("stopped; the same command with --resume true continues a training.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)
    if issubclass(kind, _Terminated):
        sys.stderr.flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def _set_up_error(error: BaseException, traceback: TracebackType | None) -> InputError | None:
    """A sentence for values that nobody has foreseen and that the run cannot be set up with; None where none is given.

    Once an engine runs, an unforeseen error is no matter of the values alone, and is shown as Python does.
    """
    taken = inspect.signature(run).parameters
    keys = {key: value for key, value in given_values(sys.argv[1:]).items() if key not in taken}
    keys = {key: value for key, value in keys.items() if not is_text_key(key) and key != "device"}
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == "_internal_run_as_gen":
            return None
        traceback = traceback.tb_next
    if not keys or not isinstance(error, Exception):
        return None
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).splitlines()
    # those that the reason speaks of, where it does
    said = {key: value for key, value in keys.items() if lines and (key in lines[0] or f"'{value}'" in lines[0])}
    keys = said or keys
    return InputError(
        "the run cannot be set up with these values",
        where=", ".join(f"--{key} {value}" for key, value in keys.items()),
        found=f"{type(error).__name__}{': ' if lines else ''}{lines[0].rstrip('.') if lines else ''}",
        todo=f"leave them out, or give others; {TRACEBACK_VARIABLE}=1 in the environment shows where it fails",
    )


def _read_along(folder: Path, content: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The folder's configurations, but for ``names``, that were read into ``content`` too: all of their keys are there.

    A federated client reads several of a bundle's configurations into one.
    """
    paths = sorted(folder.glob("*.yaml"))
    others = [ConfigParser.load_config_file(path) for path in paths if path.stem not in names]
    return [other for other in others if other.keys() <= content.keys()]


def _known_keys(workflow: ConfigWorkflow, names: Sequence[str]) -> dict[str, Any]:
    """What the configurations of these names say themselves, the first of them first."""
    known: dict[str, Any] = {}
    for name in reversed(names):
        known.update(ConfigParser.load_config_file(Path(workflow.config_root_path) / f"{name}.yaml"))
    return known


def _refuse_unknown_keys(workflow: ConfigWorkflow, names: Sequence[str], known: Mapping[str, Any]) -> None:
    """A misspelt ``--key`` would otherwise be ignored without a word."""
    folder = Path(workflow.config_root_path)
    content = workflow.parser.get()
    unknown = [key for key in content if key not in known and key != "_meta_"]
    others = _read_along(folder, content, names) if unknown else []
    for key in unknown:
        if key not in TRACKING_KEYS and not any(key in other for other in others):
            raise unknown_key(key, known)
    parts, own = content.get("train"), known.get("train")
    if isinstance(parts, dict) and isinstance(own, dict):
        for key in parts.keys() - own.keys():
            # no error, for hosts put parts of their own there
            hint = suggestion("--train::", key, own)
            logger.warning("--train::%s is not read by this bundle%s.", key, f"; {hint}" if hint else "")


def _report_edited_configs(root: Path) -> None:
    """Say which configurations of a packaged bundle are no longer what was packaged."""
    manifest = Manifest.of_bundle(root)
    edited = [] if manifest is None else manifest.edited("configs")
    if edited:
        # no error: to be edited is what a configuration is for, but hosts may read the twin of the file that was
        listed = ", ".join(edited)
        logger.warning("%s: not as packaged (%s). Change .yaml and .json alike: hosts read either.", listed, MANIFEST)


def _is_command() -> bool:
    """Whether this process is ``python -m monai.bundle``, and not another program that uses a bundle."""
    return Path(sys.argv[0]).parts[-3:-1] == ("monai", "bundle")


def _configuration() -> str:
    """Name of the configuration that the command line runs; others may be read by it."""
    return Path(given_values(sys.argv[1:]).get("config_file") or "").stem


def _prepare_process() -> None:
    """One-sentence errors, no error for what a terminal cannot show, and an orderly end when asked to end."""
    if not os.environ.get(TRACEBACK_VARIABLE):
        sys.excepthook = _print_input_error
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)


def _claim_output(parser: ConfigParser) -> None:
    """Take the output folder before any work: of two commands that are started at once, the second is refused."""
    if "output_dir" not in parser.get() or os.environ.get("RANK", "0") != "0":
        return
    folder = output_folder(parser.get_parsed_content("output_dir"))
    claim_folder(folder)
    atexit.register(_remove_if_empty, folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def begin(*names: str, seed: int = 0, device: str | torch.device | None = None) -> None:
    """First step of a configuration: one-sentence errors, a fitting version, known keys only, a fixed seed.

    Args:
        names: the configuration's name, e.g. ``"train"``, and those whose keys it takes too.
        seed: of all random numbers.
        device: what it computes on, to join the processes of ``torchrun``, see `join_ranks`; None does without.

    Raises:
        InputError: the bundle needs another version of this package, a key is none of the configuration's, or a value
            cannot work, e.g. a device that is not there.
    """
    by_command = _is_command()
    if by_command:
        _prepare_process()
    workflow = running_config(ConfigWorkflow)
    if workflow is not None:
        root = Path(workflow.config_root_path).parent
        require_bundle_fits(root)
        known = _known_keys(workflow, names)
        _refuse_unknown_keys(workflow, names, known)
        if by_command and names[0] == _configuration():
            settle_values(workflow.parser, known, sys.argv[1:])
            _claim_output(workflow.parser)
        _report_edited_configs(root)
        # found now, because hosts may later query the parser when no workflow exists
        workflow.parser.get_parsed_content("bundle_root")
    if isinstance(seed, bool) or not isinstance(seed, (int, float)) or seed < 0 or seed != int(seed):
        raise InputError("a value cannot be used", where="--seed", expected="a whole number, 0 or more", found=seed)
    set_determinism(int(seed))
    if device is not None:
        require_device(device)
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
        config_file=str(path),
        workflow_type="infer",
        logging_file=False,
        bundle_root=as_written(str(bundle_root)),
        **shared,
    )
    workflow.initialize()
    return workflow

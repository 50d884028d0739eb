"""What a guarded model is, as plain values: its network's configuration, and where its features are taken."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from medad_plugins.data import ScanFormat
from medad_plugins.errors import InputError
from medad_plugins.files import home_path, read_torch
from medad_plugins.methods.ood_guard.guarded_model import OUTPUT, first_tensor, load_program, make_network

__all__ = ["guarded_definition", "guarded_state"]

logger = logging.getLogger(__name__)

KEY = "--guarded"
_CONFIGS = [f"{name}.{end}" for name in ("inference", "train") for end in ("json", "yaml", "yml")]
_PROGRAM_ENDS = (".ts", ".pt", ".pth", ".zip")
# under which a checkpoint may hold its state dict among other entries
_ENTRIES = ("model", "network", "net", "network_def", "state_dict")


def guarded_definition(guarded: str, scan: ScanFormat, layer: str = "") -> dict[str, Any]:
    """The plain values that `OODGuard` makes its model from.

    A bundle's configuration is read as MONAI reads it: expressions that its ``network_def`` refers to are evaluated.
    What is kept are plain values and the name of a network of `monai.networks.nets`, so that a model file of the guard
    runs no code.

    Args:
        guarded: folder of a MONAI bundle, a TorchScript file, or ``"none"``, a small U-Net with random weights.
        scan: how scans come to the model; scans of this size are tried.
        layer: of whose output features are taken, as the network names it, e.g. ``"model.1.submodule"``, or
            ``"output"``. Empty takes the last one on the coarsest grid, of a TorchScript file its output.

    Returns:
        ``network``, a configuration, or None of a TorchScript file; ``layer``; ``takes_first``: the model gives several
        outputs, of which the first counts.

    Raises:
        InputError: there is no such model, it cannot be rebuilt from plain values, it does not take the scans, or has
            no such layer.
    """
    config = None
    if guarded == "none":
        logger.warning("no --guarded model: a random network is guarded, for a trial of the commands alone.")
        config = _trial_network(scan)
    elif not _is_program(guarded):
        config = _network_config(Path(home_path(guarded)))
    if config is None and layer not in ("", OUTPUT):
        raise InputError(
            "a TorchScript file has no layers to take features of",
            where=f"--layer {layer}",
            todo="leave it out, or give the model as a MONAI bundle",
        )
    model = load_program(_program(guarded)) if config is None else make_network(config)
    image = torch.zeros(1, scan.in_channels, *scan.network_edges)
    outputs, found = _tried(model.eval(), image, guarded)
    if config is None:
        layer = OUTPUT
    elif not layer:
        layer = _coarsest(found, scan.network_dims)
    elif layer != OUTPUT and layer not in found:
        raise InputError(
            "the guarded network has no such layer",
            where=f"--layer {layer}",
            expected=f"one of {', '.join(list(found)[:40])}",
            todo="give one of these, or leave it out",
        )
    return {"network": config, "layer": layer, "takes_first": not isinstance(outputs, Tensor)}


def guarded_state(guarded: str) -> Mapping[str, Tensor] | bytes:
    """The weights of a bundle's network, or a TorchScript file's bytes.

    Raises:
        InputError: the file is missing or holds no weights.
    """
    if _is_program(guarded):
        return _program(guarded)
    path = Path(home_path(guarded)) / "models" / "model.pt"
    if not path.is_file():
        todo = "train it, or give a TorchScript file"
        raise InputError("the bundle has no weights", where=path, todo=todo)
    content = read_torch(path, "checkpoint", "save the network's state_dict alone")
    for name in _ENTRIES:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        todo = "save the network's state_dict"
        raise InputError("the checkpoint holds no state dict", where=path, expected="tensors by name", todo=todo)
    return content


def _trial_network(scan: ScanFormat) -> dict[str, Any]:
    return {
        "_target_": "UNet",
        "spatial_dims": scan.network_dims,
        "in_channels": scan.in_channels,
        "out_channels": 2,
        "channels": [16, 32, 64],
        "strides": [2, 2],
        "num_res_units": 1,
        "norm": "batch",
    }


def _is_program(guarded: str) -> bool:
    path = Path(home_path(guarded)) if guarded else Path()
    if not guarded or not path.exists():
        todo = f"give the folder of a MONAI bundle or a TorchScript file as {KEY}, or none for a trial"
        raise InputError("there is no model to guard", where=guarded or KEY, todo=todo)
    if path.is_dir():
        return False
    if path.suffix.lower() not in _PROGRAM_ENDS:
        expected = f"a bundle's folder, or a TorchScript file ({', '.join(_PROGRAM_ENDS)})"
        raise InputError("this is no model to guard", where=path, expected=expected)
    return True


def _program(guarded: str) -> bytes:
    return Path(home_path(guarded)).read_bytes()


def _network_config(root: Path) -> dict[str, Any]:
    """The configuration of a bundle's network, resolved to plain values."""
    path = next((root / "configs" / name for name in _CONFIGS if (root / "configs" / name).is_file()), None)
    if path is None:
        expected = f"configs/{_CONFIGS[0]} or {_CONFIGS[1]}"
        raise InputError("this is no MONAI bundle", where=root, expected=expected, todo=f"give its root as {KEY}")
    parser = ConfigParser()
    parser.read_config(str(path))
    parser["bundle_root"] = str(root)
    todo = "give the model as a TorchScript file"
    try:
        found = parser.get_parsed_content("network_def", instantiate=False)
        config = dict(found.get_config())
    except Exception as error:  # whatever a configuration's own expressions raise
        reason = str(error).strip().splitlines()[:1]
        raise InputError(
            "the bundle's network_def cannot be resolved", where=path, found="".join(reason), todo=todo
        ) from error
    config = {name: value for name, value in config.items() if name not in ("_requires_", "_disabled_", "_desc_")}
    if not _is_plain(config):
        raise InputError("the bundle's network_def is more than plain values", where=path, found=config, todo=todo)
    return config


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(name, str) and _is_plain(part) for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))


def _tried(model: nn.Module, image: Tensor, guarded: str) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """What the model gives for a scan, and the shapes of what its layers give, in the order in which they are done."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.pop(name, None)
                found[name] = tuple(output.shape)

        return hook

    hooks = []
    if not isinstance(model, torch.jit.ScriptModule):
        hooks = [part.register_forward_hook(note(name)) for name, part in model.named_modules() if name]
    try:
        with torch.no_grad():
            outputs = model(image)
            first_tensor(outputs)
    except Exception as error:  # networks raise all kinds of errors about shapes
        size = " x ".join(str(edge) for edge in image.shape[1:])
        raise InputError(
            "the guarded model does not take these scans",
            where=guarded,
            found=f"{size}: {str(error).strip().splitlines()[-1]}",
            todo="give --spatial_dims, --in_channels and an --image_size or --roi_size that it takes",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, found


def _coarsest(found: Mapping[str, tuple[int, ...]], spatial_dims: int) -> str:
    """The last layer on the coarsest grid of more than one location; the output where no layer has a grid."""
    grids = {
        name: prod(shape[2:]) for name, shape in found.items() if len(shape) == 2 + spatial_dims and prod(shape[2:]) > 1
    }
    if not grids:
        return OUTPUT
    coarsest = min(grids.values())
    return [name for name, size in grids.items() if size == coarsest][-1]

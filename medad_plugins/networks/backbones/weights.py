"""Pretrained backbone weights from files that are already on the machine; nothing is ever downloaded."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.files import read_torch

__all__ = ["KNOWN_WEIGHTS", "WEIGHTS_FOLDER_VARIABLE", "WeightFile", "find_weights", "load_pretrained"]

logger = logging.getLogger(__name__)

WEIGHTS_FOLDER_VARIABLE = "MEDAD_WEIGHTS"


@dataclass(frozen=True)
class WeightFile:
    """A published weight file: its name in the torch hub cache (which ends in its SHA-256's start) and its size."""

    file_name: str
    megabytes: int


# ImageNet weights in torchvision's layout, the "V1" recipes that the papers use.
KNOWN_WEIGHTS: dict[str, dict[str, WeightFile]] = {
    "imagenet": {
        "resnet18": WeightFile("resnet18-f37072fd.pth", 45),
        "resnet34": WeightFile("resnet34-b627a593.pth", 83),
        "resnet50": WeightFile("resnet50-0676ba61.pth", 98),
        "wide_resnet50_2": WeightFile("wide_resnet50_2-95faca4d.pth", 132),
    }
}


def find_weights(weights: str, architecture: str) -> Path | None:
    """The file that ``weights`` means: a path, a known name such as ``imagenet``, or ``none`` for no file.

    A known name is looked for in the folder named by the environment variable ``MEDAD_WEIGHTS``, then in the torch hub
    cache.

    Raises:
        InputError: if there is no such file; the text names the file, its size and the places it may lie in.

    Example:
        >>> find_weights("none", "resnet18") is None
        True
    """
    if weights in ("none", None, ""):
        return None
    if weights not in KNOWN_WEIGHTS:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise InputError(
                "the weights file does not exist",
                where=path,
                expected=f"a file, one of the names {sorted(KNOWN_WEIGHTS)}, or 'none'",
                todo="give --weights another value",
            )
        return path
    known = KNOWN_WEIGHTS[weights].get(architecture)
    if known is None:
        raise InputError(
            f"no {weights} weights are known for this backbone",
            where=architecture,
            expected=f"one of {sorted(KNOWN_WEIGHTS[weights])}",
            todo="give --weights a path or 'none'",
        )
    folders = [Path(torch.hub.get_dir()) / "checkpoints"]
    if os.environ.get(WEIGHTS_FOLDER_VARIABLE):
        folders.insert(0, Path(os.environ[WEIGHTS_FOLDER_VARIABLE]))
    for folder in folders:
        if (folder / known.file_name).is_file():
            return folder / known.file_name
    raise InputError(
        f"the {weights} weights of {architecture} are not on this machine",
        where=known.file_name,
        expected=f"that file ({known.megabytes} MB, its SHA-256 starts with {known.file_name.split('-')[1][:8]}) in "
        f"the folder named by {WEIGHTS_FOLDER_VARIABLE} or in {folders[-1]}",
        todo="copy it there, give --weights a path to a file in torchvision's layout, or --weights none",
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """State dict of a weights file, without wrapping keys; code in the file is never run.

    Raises:
        InputError: for a file that is truncated, holds code, or holds no tensors.
    """
    content = read_torch(path, "weights file", "save a plain state dict with torch.save(model.state_dict(), ...)")
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError("the file holds no state dict", where=path, found=type(content).__name__)
    return {name.removeprefix("module."): tensor for name, tensor in content.items()}


def _fit_kernel(kernel: Tensor, target: Tensor) -> Tensor:
    """Kernel of the file in the shape of the network: inflated from 2D to 3D, its input channels spread."""
    if kernel.dim() == target.dim() - 1 and kernel.dim() >= 4:
        # constant along the new axis: a volume that repeats one slice gives that slice's features
        kernel = kernel.unsqueeze(2).expand(-1, -1, target.shape[2], *kernel.shape[2:]) / target.shape[2]
    if kernel.dim() == target.dim() and kernel.dim() >= 4 and kernel.shape[1] != target.shape[1]:
        # channels that all show the same image give what the file's channels showing it would give
        channels = target.shape[1]
        kernel = kernel.sum(1, keepdim=True).expand(-1, channels, *kernel.shape[2:]) / channels
    return kernel


def load_pretrained(backbone: nn.Module, path: Path, optional: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Load a weights file into a backbone of torchvision's (or MedicalNet's) layout, 2D files into 3D networks too.

    Args:
        backbone: network whose parameter names are those of torchvision's ResNet.
        path: the file.
        optional: prefixes of stages that the file may lack altogether; they stay as they were initialised.

    Returns:
        those of the optional stages that the file lacks.

    Raises:
        InputError: for an unreadable file, missing or unknown keys, or a kernel of another shape.
    """
    tensors = {name: tensor for name, tensor in read_tensors(path).items() if not name.startswith("fc.")}
    target = backbone.state_dict()
    fresh = tuple(stage for stage in optional if not any(name.startswith(stage) for name in tensors))
    needed = {n for n in target if not n.endswith("num_batches_tracked") and not (fresh and n.startswith(fresh))}
    missing = sorted(needed - set(tensors))
    # a backbone that ends earlier has no use for the deeper stages of a complete file
    stages = {name.split(".")[0] for name in target}
    unknown = sorted(n for n in tensors if n not in target and (n.split(".")[0] in stages or missing))
    lacking = {name.split(".")[0] for name in missing} - {name.split(".")[0] for name in tensors}
    if lacking and not unknown and all(name.startswith("layer") for name in lacking):
        raise InputError(
            "the weights lack a stage that this method taps",
            where=path,
            expected=", ".join(sorted(lacking)),
            todo="give --weights of a whole backbone, or tap earlier stages only",
        )
    if missing or unknown:
        raise InputError(
            "the weights do not fit this backbone",
            where=path,
            expected=f"{len(needed)} tensors named as in torchvision's ResNet",
            found=f"{len(missing)} missing (first: {missing[:2]}), {len(unknown)} unknown (first: {unknown[:2]})",
            todo="give the --weights of this --backbone",
        )
    fitted = {name: _fit_kernel(tensor, target[name]) for name, tensor in tensors.items() if name in target}
    for name, tensor in fitted.items():
        if tensor.shape != target[name].shape:
            raise InputError(
                f"tensor {name} of the weights has another shape",
                where=path,
                expected=tuple(target[name].shape),
                found=tuple(tensor.shape),
                todo="give the --weights of this --backbone",
            )
    backbone.load_state_dict(fitted, strict=False)
    if fresh:
        logger.warning("%s has no %s: initialised at random.", path.name, ", ".join(fresh))
    return fresh

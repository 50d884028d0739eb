"""The tensors of a weights file, and loading them into a backbone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.files import read_torch
from medad_plugins.networks.backbones.safetensors_file import read_safetensors

__all__ = ["load_exactly", "load_pretrained", "read_tensors"]

logger = logging.getLogger(__name__)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """State dict of a weights file, ``.safetensors`` or of PyTorch, without wrapping keys; no code in it is ever run.

    Raises:
        InputError: for a file that is truncated, holds code, or holds no tensors.
    """
    if path.suffix == ".safetensors":
        return read_safetensors(path)
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


def load_exactly(backbone: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors named as in a backbone, 2D kernels into 3D networks too; of another shape, none is loaded.

    Raises:
        InputError: a tensor has another shape than the backbone's.
    """
    target = backbone.state_dict()
    fitted = {name: _fit_kernel(tensor, target[name]) for name, tensor in tensors.items()}
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
    load_exactly(backbone, {name: tensor for name, tensor in tensors.items() if name in target}, path)
    if fresh:
        logger.warning("%s has no %s: initialised at random.", path.name, ", ".join(fresh))
    return fresh

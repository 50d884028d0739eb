"""Inference and training in a chosen precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medad_plugins.plain_tensor import plain_tensor

__all__ = ["PrecisionInferer", "fast_bfloat16", "said_precision"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# of a processor; others compute bfloat16 by way of float32, 4 to 16 times slower than float32 itself
_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}


def fast_bfloat16(device: str | torch.device) -> str | None:
    """What makes bfloat16 the faster one on a device, e.g. ``"AVX-512 BF16"``; None where nothing does.

    Known of CUDA devices and of x86 processors; all others count as slow, for which float32 is never wrong.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return "GPU" if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if kind != "cpu" or not torch.backends.mkldnn.is_available():
        return None
    instructions = _instructions()
    return next((name for key, name in _INSTRUCTIONS.items() if key in instructions), None)


def _instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor can do; nothing where it does not say."""
    known = getattr(torch.cpu, "get_capabilities", None)
    if known is not None:
        return {name for name, able in known().items() if able is True}
    # an older PyTorch: Linux gives the same names
    lines = cpuinfo.read_text("utf-8", "replace").splitlines() if cpuinfo.is_file() else []
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def said_precision(precision: str, device: str | torch.device) -> str:
    """What a run says of its precision: for ``"auto"`` also what that is here, and why."""
    if precision != "auto":
        return precision
    reason = fast_bfloat16(device)
    if reason is None:
        return "auto (float32: no fast bfloat16 here)"
    return f"auto (bfloat16 in training by {reason}, float32 in scoring)"


class PrecisionInferer(SimpleInferer):
    """Calls the network on plain tensors, in float32 or in bfloat16 autocast with channels-last memory.

    Processors with AMX or AVX-512 bfloat16 instructions and GPUs compute convolutions several times faster so; others
    several times slower. The parameters, the optimiser and the anomaly map stay float32.

    Args:
        precision: ``"float32"``, ``"bfloat16"``, or ``"auto"``: where gradients are computed, bfloat16 if the device is
            fast at it (`fast_bfloat16`); everywhere else float32, so that statistics, calibration and maps are the
            same on every machine and in every export.

    Shape:
        whatever the network takes and gives.

    Example:
        >>> infer = PrecisionInferer("bfloat16")
        >>> infer(torch.rand(2, 1, 8, 8), torch.nn.Conv2d(1, 3, 1)).dtype
        torch.bfloat16
    """

    def __init__(self, precision: str = "float32") -> None:
        super().__init__()
        if precision not in ("auto", *PRECISIONS):
            raise ValueError(f"precision must be one of {['auto', *sorted(PRECISIONS)]}, got {precision!r}.")
        self.precision = precision

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        # a MetaTensor would pass each operation of the network through Python
        image = plain_tensor(inputs)
        dtype = self._dtype(image.device)
        if dtype == torch.float32:
            if self.precision == "auto" and isinstance(network, nn.Module):
                _lay_out(network, image.dim(), torch.contiguous_format)  # as it is once it is loaded from its file
            return network(image, *args, **kwargs)
        layout = torch.channels_last if image.dim() == 4 else torch.channels_last_3d
        if isinstance(network, nn.Module):
            _lay_out(network, image.dim(), layout)
        with torch.autocast(image.device.type, dtype):
            return network(image.contiguous(memory_format=layout), *args, **kwargs)

    def _dtype(self, device: torch.device) -> torch.dtype:
        if self.precision != "auto":
            return PRECISIONS[self.precision]
        fast = torch.is_grad_enabled() and fast_bfloat16(device) is not None
        return torch.bfloat16 if fast else torch.float32


def _lay_out(network: nn.Module, dims: int, layout: torch.memory_format) -> None:
    """Move weights of ``dims`` axes to a layout; moves nothing once done.

    ``Module.to`` would try it with weights of four and of five axes alike, and refuse those that do not fit.
    """
    for weight in (*network.parameters(), *network.buffers()):
        if weight.dim() == dims:
            weight.data = weight.data.to(memory_format=layout)

"""Inference and training in a chosen precision."""

from __future__ import annotations

from typing import Any

import torch
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medad_plugins.plain_tensor import plain_tensor

__all__ = ["PrecisionInferer"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class PrecisionInferer(SimpleInferer):
    """Calls the network on plain tensors, in float32 or in bfloat16 autocast with channels-last memory.

    Processors with AMX or AVX-512 bfloat16 instructions and GPUs compute convolutions several times faster so; the
    parameters, the optimiser and the anomaly map stay float32.

    Args:
        precision: ``"float32"`` or ``"bfloat16"``.

    Shape:
        whatever the network takes and gives.

    Example:
        >>> infer = PrecisionInferer("bfloat16")
        >>> infer(torch.rand(2, 1, 8, 8), torch.nn.Conv2d(1, 3, 1)).dtype
        torch.bfloat16
    """

    def __init__(self, precision: str = "float32") -> None:
        super().__init__()
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {sorted(PRECISIONS)}, got {precision!r}.")
        self.dtype = PRECISIONS[precision]

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        # a MetaTensor would pass each operation of the network through Python
        image = plain_tensor(inputs)
        if self.dtype == torch.float32:
            return network(image, *args, **kwargs)
        layout = torch.channels_last if image.dim() == 4 else torch.channels_last_3d
        if isinstance(network, nn.Module):
            _lay_out(network, image.dim(), layout)
        with torch.autocast(image.device.type, self.dtype):
            return network(image.contiguous(memory_format=layout), *args, **kwargs)


def _lay_out(network: nn.Module, dims: int, layout: torch.memory_format) -> None:
    """Move weights of ``dims`` axes to a layout; moves nothing once done.

    ``Module.to`` would try it with weights of four and of five axes alike, and refuse those that do not fit.
    """
    for weight in (*network.parameters(), *network.buffers()):
        if weight.dim() == dims:
            weight.data = weight.data.to(memory_format=layout)

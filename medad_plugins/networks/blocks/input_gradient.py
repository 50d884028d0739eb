"""How a number about a scan changes with its intensities, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["input_gradient"]


def input_gradient(value: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """Absolute gradient of a value of each case with respect to its scan, averaged over channels.

    Works where gradients are switched off around it, and leaves those of parameters alone; not in inference mode.

    Args:
        value: scans ``(B, C, *spatial)`` to one number each, ``(B,)``, none dependent on its batch mates: it is summed,
            so that the batch's size does not matter.
        image: ``(B, C, *spatial)``.

    Returns:
        ``(B, 1, *spatial)``, detached, float32 or better.
    """
    # gradients of half precision are noise
    with torch.enable_grad(), torch.autocast(image.device.type, enabled=False):
        own = image.detach().to(torch.promote_types(image.dtype, torch.float32)).requires_grad_(True)
        (gradient,) = torch.autograd.grad(value(own).sum(), own)
    return gradient.abs().mean(1, keepdim=True)

"""How much neighbouring places differ."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["total_variation"]


def total_variation(image: Tensor) -> Tensor:
    """Sum of the absolute differences of neighbours along every axis, of each case.

    Args:
        image: ``(B, C, *spatial)``.

    Returns:
        ``(B,)``.

    Example:
        >>> total_variation(torch.tensor([[0.0, 1.0], [0.0, 3.0]])[None, None])
        tensor([6.])
    """
    total = torch.zeros(image.shape[0], dtype=image.dtype, device=image.device)
    for axis in range(2, image.dim()):
        size = int(image.shape[axis]) - 1
        difference = image.narrow(axis, 1, size) - image.narrow(axis, 0, size)
        total = total + difference.abs().flatten(1).sum(1)
    return total

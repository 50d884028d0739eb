"""Maxima and minima of maps in windows."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

__all__ = ["closed", "dilated"]


def dilated(values: Tensor, window: int) -> Tensor:
    """The highest of ``(B, C, *spatial)`` in a window of so many pixels, odd, around every place."""
    pool = functional.max_pool2d if values.dim() == 4 else functional.max_pool3d
    # the padding is lower than everything
    highest: Tensor = pool(values, window, stride=1, padding=window // 2)
    return highest


def closed(values: Tensor, window: int) -> Tensor:
    """Dilated and then eroded: what is low in less than such a window is filled in."""
    return -dilated(-dilated(values, window), window)

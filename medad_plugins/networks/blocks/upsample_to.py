"""Upsampling of a feature map to a given grid."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UpsampleTo"]


class UpsampleTo(nn.Module):
    """Linear interpolation to a given grid.

    Args:
        spatial_dims: 2 or 3.

    Shape:
        ``(B, C, *grid)`` and a size to ``(B, C, *size)``.
    """

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        if list(x.shape[2:]) == size:
            return x
        return functional.interpolate(x, size, mode=self.mode, align_corners=False)

"""Three convolutions, the latter two with a shortcut."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

__all__ = ["ResidualBlock3"]


class ResidualBlock3(nn.Module):
    """3x3 convolution of a stride, norm, ReLU; then two more whose result is added to the first's.

    Args:
        spatial_dims: 2 or 3.
        in_channels, out_channels: of the map.
        stride: of the first convolution.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid / stride)``, not negative.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]

        def convolution(before: int, step: int) -> list[nn.Module]:
            return [conv(before, out_channels, 3, stride=step, padding=1, bias=False), norm(out_channels)]

        self.first = nn.Sequential(*convolution(in_channels, stride), nn.ReLU(inplace=True))
        self.others = nn.Sequential(*convolution(out_channels, 1), nn.ReLU(inplace=True), *convolution(out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.relu(self.others(x) + x)

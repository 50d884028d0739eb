"""Bottleneck of UniNet: its stage looks at halves of the channels by kernels of two sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.backbones import BACKBONES, STAGE_PLANES, inner_width, tap_channels
from medad_plugins.networks.blocks.one_class_bottleneck import OneClassBottleneck

__all__ = ["TwoKernelBottleneck"]


class TwoKernelBlock(nn.Module):
    """Residual block: each half of the channels goes through two convolutions of its own size, a 1x1 joins them.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid / stride)``, not negative.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        width: int,
        out_channels: int,
        kernels: Sequence[int],
        stride: int = 1,
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.parted_at = in_channels // 2
        self.first, self.second = (
            nn.Sequential(
                conv(self.parted_at, width // 2, kernel, stride=stride, padding=kernel // 2, bias=False),
                norm(width // 2),
                nn.ReLU(inplace=True),
                conv(width // 2, width // 2, kernel, padding=kernel // 2, bias=False),
                norm(width // 2),
            )
            for kernel in kernels
        )
        self.join = nn.Sequential(conv(width, out_channels, 1, bias=False), norm(out_channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv(in_channels, out_channels, 1, stride=stride, bias=False), norm(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        halves = torch.cat([self.first(x[:, : self.parted_at]), self.second(x[:, self.parted_at :])], 1)
        return torch.relu(self.join(halves) + self.shortcut(x))


class TwoKernelBottleneck(OneClassBottleneck):
    """RD4AD's bottleneck with blocks of two kernel sizes.

    Args:
        architecture, spatial_dims: see `OneClassBottleneck`.
        kernels: edges of both kernels, odd.
    """

    def __init__(self, architecture: str, spatial_dims: int = 2, kernels: Sequence[int] = (3, 7)) -> None:
        self.kernels = tuple(kernels)
        super().__init__(architecture, spatial_dims)

    def make_stage(self, architecture: str, spatial_dims: int) -> list[nn.Module]:
        _, _, third, last = tap_channels(architecture)
        width = STAGE_PLANES[3] * inner_width(architecture)
        inputs = [3 * third] + [last] * (BACKBONES[architecture][1][3] - 1)
        return [
            TwoKernelBlock(spatial_dims, channels, width, last, self.kernels, stride=2 if number == 0 else 1)
            for number, channels in enumerate(inputs)
        ]

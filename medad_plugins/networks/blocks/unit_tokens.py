"""Tokens of unit length on one grid, from the feature maps of a frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UnitTokens"]


class UnitTokens(nn.Module):
    """Feature maps brought to the coarsest one's grid, joined, and each place's vector scaled to unit length.

    Maps of one stride, such as blocks of a transformer, are averaged; others, such as stages of a convolutional
    network, are laid one after the other along the channels.

    Args:
        channels: of the feature maps, finest first.
        strides: pixels of the scan along an edge of one place of each.
        spatial_dims: 2 or 3.
        neighbourhood: edge of the neighbourhood over which each map is averaged first, odd; 1 for none. Beyond the
            border the map's last values count again.

    Shape:
        maps ``(B, C_k, *grid_k)``, finest first, to ``(B, D, *grid)``, the last one's; ``out_channels`` is D.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], spatial_dims: int = 2, neighbourhood: int = 1
    ) -> None:
        super().__init__()
        if neighbourhood < 1 or neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd and positive, got {neighbourhood}.")
        self.averaged = len(set(strides)) == 1
        if self.averaged and len(set(channels)) > 1:
            raise ValueError(f"maps of one stride are averaged and need as many channels, got {list(channels)}.")
        self.out_channels = channels[0] if self.averaged else sum(channels)
        self.padding = [neighbourhood // 2] * (2 * spatial_dims)
        self.neighbours = nn.AvgPool2d(neighbourhood, 1) if spatial_dims == 2 else nn.AvgPool3d(neighbourhood, 1)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, taps: list[Tensor]) -> Tensor:
        grid = taps[-1].shape[2:]
        parts: list[Tensor] = []
        for tap in taps:
            part = tap
            if self.padding[0] > 0:
                # padded here, for pooling in 3D refuses maps that are smaller than its kernel
                part = self.neighbours(functional.pad(part, self.padding, mode="replicate"))
            if part.shape[2:] != grid:
                # half the size: the mean of the two places along each axis
                part = functional.interpolate(part, grid, mode=self.mode, align_corners=False)
            parts.append(part)
        joined = torch.stack(parts).mean(0) if self.averaged else torch.cat(parts, 1)
        return functional.normalize(joined.float(), dim=1)

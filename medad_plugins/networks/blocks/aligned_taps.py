"""Feature maps of a backbone on one grid, every channel with its own scale or all on one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AlignedTaps", "channel_scale"]

SCALINGS = ("none", "standard")


def channel_scale(scaling: str, spatial_dims: int, channels: int) -> nn.Module:
    """What brings the channels of features ``(B, channels, *grid)`` to a scale, without anything that learns.

    Args:
        scaling: ``"none"`` leaves the channels as they are; ``"standard"`` brings each to mean 0 and deviation 1, in
            training those of the batch, later the mean of all batches.
        spatial_dims: 2 or 3.
        channels: of the features.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {SCALINGS}, got {scaling!r}.")
    if scaling == "none":
        return nn.Identity()
    # cumulative means: a share of the last batches alone would follow what these happen to be
    norm: nn.Module = Norm[Norm.BATCH, spatial_dims](channels, affine=False, momentum=None)
    return norm


class AlignedTaps(nn.Module):
    """Feature maps brought to one of their grids by linear interpolation and laid one after the other.

    Args:
        channels: of the feature maps, finest first.
        spatial_dims: 2 or 3.
        scaling: see `channel_scale`.
        finest: on the first map's grid; otherwise on the last one's.

    Shape:
        maps ``(B, C_k, *grid_k)``, finest first, to ``(B, D, *grid)``, float32; ``out_channels`` is D.
    """

    def __init__(
        self, channels: Sequence[int], spatial_dims: int = 2, scaling: str = "none", finest: bool = False
    ) -> None:
        super().__init__()
        self.place = 0 if finest else len(channels) - 1
        self.out_channels = sum(channels)
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.scale = channel_scale(scaling, spatial_dims, self.out_channels)

    def forward(self, taps: list[Tensor]) -> Tensor:
        grid = list(taps[self.place].shape[2:])
        parts: list[Tensor] = []
        for tap in taps:
            part = tap.float()
            if list(part.shape[2:]) != grid:
                part = functional.interpolate(part, grid, mode=self.mode, align_corners=True)
            parts.append(part)
        joined: Tensor = self.scale(torch.cat(parts, 1))
        return joined

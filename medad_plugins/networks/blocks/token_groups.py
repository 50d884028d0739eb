"""Feature maps of a backbone as the tokens that a decoder is given, and as the groups that it rebuilds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TokenGroups"]


def even_parts(count: int, parts: int) -> list[list[int]]:
    """The numbers below a count in order, in parts of sizes as even as can be, the later ones the larger."""
    return [list(range(count * i // parts, count * (i + 1) // parts)) for i in range(parts)]


class TokenGroups(nn.Module):
    """What is rebuilt of which feature maps, and by which blocks of a decoder.

    Maps that are alike, blocks of a transformer, are averaged: all of them to the tokens that the decoder is given, and
    consecutive ones to each group. Maps that differ in channels or stride, stages of a convolutional network, are
    brought to the coarsest one's grid and joined along the channels, and each is a group. The decoder's blocks are
    shared out in reverse order: what is shallow is rebuilt by the last ones, as the mean of what they give.

    Args:
        channels: of the feature maps, finest or shallowest first.
        strides: pixels of the scan along an edge of one place of each.
        spatial_dims: 2 or 3.
        depth: blocks of the decoder.
        groups: of maps that are alike.

    Shape:
        maps ``(B, C_k, *grid_k)`` to tokens ``(B, N, width)`` in row-major order of the last one's grid, and targets
        ``(B, C_g, *grid)``, one for each group.

    Raises:
        ValueError: the decoder has fewer blocks than there are groups.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], spatial_dims: int = 2, depth: int = 8, groups: int = 2
    ) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"groups must be at least 1, got {groups}.")
        self.alike = len(set(channels)) == 1 and len(set(strides)) == 1
        count = min(groups, len(channels)) if self.alike else len(channels)
        if depth < count:
            raise ValueError(f"depth must be at least {count}, one block for each group, got {depth}.")
        self.width = channels[0] if self.alike else sum(channels)
        self.channels = [self.width] * count if self.alike else list(channels)
        self.parts = even_parts(len(channels), count)
        # the first group has the last blocks
        self.blocks = [[depth - 1 - i for i in part] for part in even_parts(depth, count)]
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, taps: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        grid = taps[-1].shape[2:]
        maps: list[Tensor] = []
        for tap in taps:
            fitted = tap
            if tap.shape[2:] != grid:
                # half the size: the mean of the two places along each axis
                fitted = functional.interpolate(tap, grid, mode=self.mode, align_corners=False)
            maps.append(fitted)
        joined = torch.stack(maps).mean(0) if self.alike else torch.cat(maps, 1)
        targets: list[Tensor] = []
        for part in self.parts:
            targets.append(torch.stack([maps[i] for i in part]).mean(0))
        return joined.flatten(2).transpose(1, 2), targets

    def rebuilt(self, decoded: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
        """Maps of the targets' shapes from the tokens ``(B, N, width)`` after each block of the decoder."""
        maps: list[Tensor] = []
        first = 0
        for index, blocks in enumerate(self.blocks):
            tokens = torch.stack([decoded[i] for i in blocks]).mean(0)
            if not self.alike:
                tokens = tokens[:, :, first : first + self.channels[index]]
                first += self.channels[index]
            maps.append(tokens.transpose(1, 2).reshape(targets[index].shape))
        return maps

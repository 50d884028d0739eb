"""U-Net of residual blocks with self-attention on its coarser grids, as diffusion models have it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AttentionUNet"]


def _group_norm(channels: int) -> nn.GroupNorm:
    """At most 32 groups, of four channels or more, so that a grid of one location keeps something."""
    groups = next(g for g in range(max(1, min(32, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def _zeroed(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ConditionedBlock(nn.Module):
    """Group norm, SiLU and convolution twice, beside a shortcut; an embedding is added between the two.

    Shape:
        ``(B, in_channels, *grid)`` and ``(B, embedding)`` or None to ``(B, out_channels, *grid)``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.first = nn.Sequential(_group_norm(in_channels), nn.SiLU(), conv(in_channels, out_channels, 3, padding=1))
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(embedding, out_channels)) if embedding else nn.Identity()
        last = _zeroed(conv(out_channels, out_channels, 3, padding=1))
        self.second = nn.Sequential(_group_norm(out_channels), nn.SiLU(), last)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        out = self.first(x)
        if embedding is not None:
            out = out + self.embed(embedding).reshape([-1, out.shape[1]] + [1] * (out.dim() - 2))
        shortcut: Tensor = self.shortcut(x)
        return shortcut + self.second(out)


class LocationAttention(nn.Module):
    """Scaled self-attention between all locations, added to its input: at the start it gives its input.

    Shape:
        ``(B, channels, *grid)`` to the same; memory grows with the number of locations squared at the most.
    """

    def __init__(self, spatial_dims: int, channels: int, head_channels: int = 64) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.heads = max(1, channels // head_channels) if channels % head_channels == 0 else 1
        self.norm = _group_norm(channels)
        self.queries = conv(channels, 3 * channels, 1)
        self.out = _zeroed(conv(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        # (B, 3, heads, channels of a head, locations)
        parts = self.queries(self.norm(x)).flatten(2).unflatten(1, [3, self.heads, x.shape[1] // self.heads])
        query, key, value = parts.transpose(3, 4).unbind(1)
        attended = functional.scaled_dot_product_attention(query, key, value).transpose(2, 3)
        out: Tensor = self.out(attended.reshape(x.shape))
        return x + out


class _Steps(nn.Module):
    """Blocks of one grid, each perhaps with attention; each joins a skip first where it is given some."""

    def __init__(
        self, spatial_dims: int, inputs: Sequence[int], channels: int, attention: bool, embedding: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConditionedBlock(spatial_dims, width, channels, embedding) for width in inputs)
        self.attentions = nn.ModuleList(
            LocationAttention(spatial_dims, channels) if attention else nn.Identity() for _ in inputs
        )

    def forward(self, x: Tensor, embedding: Tensor | None, skips: list[Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = []
        for index, (block, attention) in enumerate(zip(self.blocks, self.attentions)):
            if len(skips) > 0:
                x = torch.cat([x, skips[len(skips) - 1 - index]], 1)
            x = attention(block(x, embedding))
            outputs.append(x)
        return outputs


class AttentionUNet(nn.Module):
    """Image or feature map to another of the same grid.

    Strided convolutions go down; nearest neighbours and a convolution come up to the finer grid's own size. Every block
    of the way up gets the output of its like on the way down. The last convolution starts at zero.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the input.
        out_channels: of the output.
        width: channels of the finest grid.
        multipliers: channels of each grid over ``width``, finest first.
        blocks: residual blocks of each grid and way.
        attention_levels: places in ``multipliers`` whose blocks have attention; the coarsest grid's middle always has.
        embedding: length of a vector that is added in every block, e.g. of the time; 0 for none.

    Shape:
        ``(B, in_channels, *grid)`` (and ``(B, embedding)``) to ``(B, out_channels, *grid)``.

    Reference:
        Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        width: int,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention_levels: Collection[int] = (1, 2),
        embedding: int = 0,
    ) -> None:
        super().__init__()
        if width < 1 or blocks < 1 or not multipliers or min(multipliers) < 1:
            raise ValueError(f"width, multipliers and blocks must be positive: {width}, {list(multipliers)}, {blocks}.")
        conv = Conv[Conv.CONV, spatial_dims]
        channels = [width * factor for factor in multipliers]
        self.first = conv(in_channels, width, 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, own in enumerate(channels):
            has_attention = level in attention_levels
            finer = width if level == 0 else channels[level - 1]
            self.shrink.append(nn.Identity() if level == 0 else conv(finer, finer, 3, stride=2, padding=1))
            self.down.append(_Steps(spatial_dims, [finer, *[own] * (blocks - 1)], own, has_attention, embedding))
            # the way up begins with the coarsest
            self.up.insert(0, _Steps(spatial_dims, [2 * own] * blocks, own, has_attention, embedding))
            is_last = level == len(channels) - 1
            self.grow.insert(0, nn.Identity() if is_last else conv(channels[level + 1], own, 3, padding=1))
        self.middle = nn.ModuleList(ConditionedBlock(spatial_dims, channels[-1], channels[-1], embedding) for _ in "ab")
        self.middle_attention = LocationAttention(spatial_dims, channels[-1])
        head = _zeroed(conv(channels[0], out_channels, 3, padding=1))
        self.last = nn.Sequential(_group_norm(channels[0]), nn.SiLU(), head)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        x = self.first(x)
        kept: list[list[Tensor]] = []
        none: list[Tensor] = []
        for shrink, steps in zip(self.shrink, self.down):
            outputs = steps(shrink(x), embedding, none)
            x = outputs[-1]
            kept.append(outputs)
        for index, block in enumerate(self.middle):
            x = block(x, embedding)
            if index == 0:
                x = self.middle_attention(x)
        for index, (grow, steps) in enumerate(zip(self.grow, self.up)):
            skips = kept[len(kept) - 1 - index]
            if index > 0:
                x = grow(functional.interpolate(x, list(skips[0].shape[2:]), mode="nearest"))
            x = steps(x, embedding, skips)[-1]
        out: Tensor = self.last(x)
        return out

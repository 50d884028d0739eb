"""Blocks of a decoder that is half convolutional network and half transformer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.blocks.grid_positions import GridPositions
from medad_plugins.networks.blocks.token_attention import HeadAttention, token_perceptron
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["HybridBlock", "HybridDecoder", "PatchAttention"]

COARSEST_HEADS = 8


class PatchAttention(nn.Module):
    """Every place asks patches of two sizes, half of the heads each: few keys, however fine the grid.

    Args:
        grid: places along each axis of the grid that is trained on; for another one the positions are interpolated.
        width: channels, a multiple of the heads.
        heads: how many, an even number.
        patches: edges of the two kinds of patches; a grid that they do not divide is continued by its last places.
        dropout: in training, of attention and of the perceptron's inner values.

    Shape:
        ``(B, width, *grid)`` to the same.
    """

    def __init__(
        self, grid: Sequence[int], width: int, heads: int, patches: tuple[int, int], dropout: float = 0.1
    ) -> None:
        super().__init__()
        if heads < 2 or heads % 2 or width % heads:
            raise ValueError(f"the heads must be even and divide the width, got {heads} and {width}.")
        conv = Conv[Conv.CONV, len(grid)]
        share = width // 2
        self.patches = list(patches)
        self.share = share
        self.positions = GridPositions(grid, width)
        self.query = nn.Linear(width, width)
        self.embed = nn.ModuleList(conv(width, width, edge, stride=edge) for edge in patches)
        self.key = nn.ModuleList(nn.Linear(width, share) for _ in patches)
        self.value = nn.ModuleList(nn.Linear(width, share) for _ in patches)
        self.attend = HeadAttention(heads // 2, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.out = nn.Linear(width, width)
        self.perceptron = token_perceptron(width, 4 * width, dropout, "gelu")

    def forward(self, x: Tensor) -> Tensor:
        grid = [int(edge) for edge in x.shape[2:]]
        tokens = x.flatten(2).transpose(1, 2) + self.positions(grid)
        queries = self.query(tokens)
        answers: list[Tensor] = []
        for index, (embed, key, value) in enumerate(zip(self.embed, self.key, self.value)):
            padding: list[int] = []
            for edge in grid:
                padding = [0, -edge % self.patches[index]] + padding
            continued = functional.pad(x, padding, mode="replicate") if sum(padding) > 0 else x
            patches = embed(continued).flatten(2).transpose(1, 2)
            own = queries[:, :, index * self.share : (index + 1) * self.share]
            answers.append(self.attend(own, key(patches), value(patches)))
        tokens = tokens + self.out(self.norm1(torch.cat(answers, 2)))
        tokens = tokens + self.perceptron(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape([x.shape[0], -1] + grid)


class HybridBlock(nn.Module):
    """Two halves of the channels, one through convolutions and one through a transformer, joined and brought to a grid.

    Args:
        grid: places along each axis of what comes in, see `PatchAttention`.
        in_channels, out_channels: of what comes in and goes out.
        heads, patches, dropout: see `PatchAttention`.

    Shape:
        ``(B, in_channels, *grid)`` and a size to ``(B, out_channels, *size)``, of any sign.
    """

    def __init__(
        self,
        grid: Sequence[int],
        in_channels: int,
        out_channels: int,
        heads: int,
        patches: tuple[int, int],
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        spatial_dims = len(grid)
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        width = -(-in_channels // 2 // heads) * heads  # half, and a multiple of the heads
        self.local = nn.Sequential(
            conv(in_channels, width, 1),
            conv(width, width, 3, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            conv(width, width, 3, padding=1, bias=False),
            norm(width),
        )
        self.far = nn.Sequential(
            conv(in_channels, width, 1), PatchAttention(grid, width, heads, patches, dropout=dropout)
        )
        self.join = conv(2 * width, out_channels, 1)
        self.enlarge = UpsampleTo(spatial_dims)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        out: Tensor = self.enlarge(self.join(torch.cat([self.local(x), self.far(x)], 1)), size)
        return out


class HybridDecoder(nn.Module):
    """Hybrid blocks from the deepest of a backbone's feature maps back to each of the finer ones.

    The patches that places ask are as large in the scan at every stage: one and two places of the deepest map.

    Args:
        edges: of the scans that are trained on.
        channels, strides: of the feature maps, finest first; the last is what is decoded.
        dropout: see `PatchAttention`.

    Shape:
        ``(B, C_K, *spatial / stride_K)`` and the grids of maps 1 to K - 1 (finest first) to a list of K - 1 feature
        maps of those maps' shapes, finest first, of any sign.
    """

    def __init__(
        self, edges: Sequence[int], channels: Sequence[int], strides: Sequence[int], dropout: float = 0.1
    ) -> None:
        super().__init__()
        if len(channels) < 2 or len(channels) != len(strides) or list(strides) != sorted(strides):
            raise ValueError(
                "channels and strides must be those of two maps or more, finest first, "
                f"got {list(channels)} and {list(strides)}."
            )
        blocks: list[nn.Module] = []
        for depth, level in enumerate(range(len(channels) - 1, 0, -1)):
            grid = [-(-int(edge) // strides[level]) for edge in edges]
            patch = max(1, strides[-1] // strides[level])
            heads = max(2, COARSEST_HEADS >> depth)
            arguments = (grid, channels[level], channels[level - 1], heads, (patch, 2 * patch), dropout)
            blocks.append(HybridBlock(*arguments))
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, sizes: list[list[int]]) -> list[Tensor]:
        maps: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x, sizes[-1 - index])
            maps.insert(0, x)
        return maps

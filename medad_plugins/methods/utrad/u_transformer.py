"""A transformer over blocks of tokens, level by level down to one token and up again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.blocks.grid_positions import GridQueries
from medad_plugins.networks.blocks.token_attention import DecoderLayer, EncoderLayer, TokenDropout

__all__ = ["UTransformer", "into_blocks", "level_blocks", "out_of_blocks"]

LARGEST = 4
NARROWING = 4


def level_blocks(grid: Sequence[int]) -> list[int]:
    """Edges of the blocks of every level, of at most 4 tokens, until one token holds the whole grid.

    Example:
        >>> level_blocks([64, 64]), level_blocks([14, 16]), level_blocks([32, 32])
        ([4, 4, 4], [4, 4], [4, 4, 2])
    """
    edge = max(grid)
    blocks: list[int] = []
    while edge > 1 or not blocks:
        blocks.append(max(2, min(LARGEST, edge)))
        edge = -(-edge // blocks[-1])
    return blocks


def into_blocks(x: Tensor, size: int) -> Tensor:
    """Tokens of a grid ``(B, *grid, D)`` by blocks of so many along each axis: ``(B * N, size ** dims, D)``."""
    dims = x.dim() - 2
    shape = [x.shape[0]]
    order = [0]
    for axis in range(dims):
        shape += [x.shape[1 + axis] // size, size]
        order.append(1 + 2 * axis)
    for axis in range(dims):
        order.append(2 + 2 * axis)
    blocks = x.reshape(shape + [x.shape[-1]]).permute(order + [1 + 2 * dims])
    return blocks.flatten(1 + dims, 2 * dims).flatten(0, dims)


def out_of_blocks(blocks: Tensor, size: int, grid: list[int]) -> Tensor:
    """Blocks ``(B * N, size ** dims, D)`` back to the tokens of the grid ``(B, *grid, D)``."""
    dims = len(grid)
    shape, order = [-1], [0]
    for edge in grid:
        shape.append(edge // size)
    for axis in range(dims):
        shape.append(size)
        order += [1 + axis, 1 + dims + axis]
    x = blocks.reshape(shape + [blocks.shape[-1]]).permute(order + [1 + 2 * dims])
    return x.reshape([-1] + grid + [blocks.shape[-1]])


class LevelDown(nn.Module):
    """Encodes the tokens of every block together with one more, which then stands for the block.

    Shape:
        tokens ``(B, *grid, D)`` to those of every block, its own first ``(B * N, 1 + size ** dims, D)``.
    """

    def __init__(
        self, spatial_dims: int, size: int, width: int, heads: int, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.size = size
        self.positions = GridQueries([size] * spatial_dims, width)
        self.dropout = TokenDropout(dropout)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, hidden, dropout, "gelu") for _ in range(layers))
        # what passes by is squeezed through fewer values, so that it cannot bring everything
        narrow = max(1, width // NARROWING)
        self.bottleneck = nn.Sequential(
            nn.Linear(width, narrow), nn.LayerNorm(narrow), nn.GELU(), nn.Linear(narrow, width), nn.LayerNorm(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        placed = self.dropout(into_blocks(x, self.size) + self.positions.queries)
        tokens = torch.cat([torch.zeros_like(placed[:, :1]), placed], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class LevelUp(nn.Module):
    """Asks a block's token, and what passed by, for the tokens of the block, by learned queries.

    Shape:
        tokens of the blocks ``(B, *grid, D)`` and what passed by ``(B * N, size ** dims, D)`` to ``(B * N, size **
        dims, D)``.
    """

    def __init__(
        self, spatial_dims: int, size: int, width: int, heads: int, hidden: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.size = size
        self.queries = GridQueries([size] * spatial_dims, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout, "gelu") for _ in range(layers))

    def forward(self, x: Tensor, passed: Tensor) -> Tensor:
        memory = torch.cat([x.reshape(-1, 1, x.shape[-1]), passed], 1)
        tokens = self.queries.queries.expand(memory.shape[0], -1, -1)
        for layer in self.layers:
            tokens = layer(tokens, tokens, memory)
        return tokens


class UTransformer(nn.Module):
    """Rebuilds a feature grid: blocks of tokens become one token each, level by level, and again blocks of tokens.

    On the way down every level's tokens pass by to the way up, squeezed.

    Args:
        grid: places along each axis of the grid that is trained on. A grid that the blocks do not divide is continued
            by its last places.
        channels: of the feature vectors.
        width, heads, hidden, dropout: of the tokens, see `TokenAttention` and `EncoderLayer`.
        layers: of every level's encoder and decoder.

    Shape:
        ``(B, channels, *grid)``, the grid a multiple of ``multiple``, to the rebuilt ``(B, channels, *grid)`` and to
        the tokens that it was made of ``(B, width, *grid)``.
    """

    def __init__(
        self,
        grid: Sequence[int],
        channels: int,
        width: int = 512,
        heads: int = 8,
        hidden: int = 2048,
        layers: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}.")
        dims = len(grid)
        self.sizes = level_blocks(grid)
        self.multiple = math.prod(self.sizes)
        arguments = (width, heads, hidden, layers, dropout)
        self.inwards = nn.Linear(channels, width, bias=False)
        self.outwards = nn.Linear(width, channels, bias=False)
        self.positions = GridQueries([-(-edge // self.multiple) * self.multiple for edge in grid], width)
        self.dropout = TokenDropout(dropout)
        # levels, whose own methods and sizes are used
        self.down: Any = nn.ModuleList(LevelDown(dims, size, *arguments) for size in self.sizes)
        self.up: Any = nn.ModuleList(LevelUp(dims, size, *arguments) for size in reversed(self.sizes))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(width), nn.LayerNorm(width)

    def continued(self, features: Tensor) -> Tensor:
        """Features ``(B, channels, *grid)`` on a grid that the blocks divide."""
        padding: list[int] = []
        for edge in features.shape[2:]:
            padding = [0, -edge % self.multiple] + padding
        return functional.pad(features, padding, mode="replicate") if sum(padding) > 0 else features

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        grid = [int(edge) for edge in features.shape[2:]]
        tokens = self.inwards(features.flatten(2).transpose(1, 2))
        x = self.dropout(tokens + self.positions(grid)).reshape([-1] + grid + [tokens.shape[2]])
        passed: list[Tensor] = []
        grids: list[list[int]] = []
        for index, level in enumerate(self.down):
            grids.append([int(edge) for edge in x.shape[1:-1]])
            blocks = self.encoder_norm(level(x))
            passed.append(level.bottleneck(blocks[:, 1:]))
            x = blocks[:, 0].reshape([-1] + [edge // self.sizes[index] for edge in grids[-1]] + [blocks.shape[2]])
        for index, level in enumerate(self.up):
            blocks = self.decoder_norm(level(x, passed[-1 - index]))
            x = out_of_blocks(blocks, self.sizes[-1 - index], grids[-1 - index])
        return self.outwards(x).movedim(-1, 1), x.movedim(-1, 1)

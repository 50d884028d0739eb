"""Feature patches painted anew from what a memory holds of their neighbours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.methods.squid.memories import MemoryQueues
from medad_plugins.networks.batch_noise import batch_uniform
from medad_plugins.networks.blocks.patch_grid import neighbouring_positions, position_codes

__all__ = ["InpaintingBlock", "masked_shortcut"]


def masked_shortcut(painted: Tensor, original: Tensor, masked_share: float, positions: int) -> Tensor:
    """In training, what was painted at most locations and the original at the others, drawn anew.

    Args:
        painted, original: ``(B * positions, C, *grid)``.
        masked_share: of the locations that are painted.
        positions: patches of a case.
    """
    cases = len(painted) // positions
    # drawn by cases, which processes share
    drawn = batch_uniform((cases, positions, 1, *painted.shape[2:]), painted).flatten(0, 1)
    return torch.where(drawn < masked_share, painted, original)


class InpaintingBlock(nn.Module):
    """Every patch of features is looked up in a memory, then painted from the looked-up patches around it.

    The channels are reduced so that a patch is a vector of bounded length; a queue for each position gives what it
    holds of it; by multi-head attention the patch as it was asks the looked-up ones around it, which are zeros beyond
    the scan, and what it gets is added to the looked-up patch; a small perceptron; back to all channels, with the
    number of the position in binary.

    Args:
        spatial_dims: 2 or 3.
        parts: patches along each edge of the scan.
        channels: of the features.
        grid: edges of a patch.
        slots: of each queue.
        top_k: see `medad_plugins.networks.blocks.memory_addressing.look_up`.
        heads: of the attention.
        max_length: bound of the length of a patch's vector; the paper's 2048.
        masked_share: of the locations that are painted in training.

    Shape:
        ``(B * positions, channels, *grid)`` to the same, not negative, and the vectors for the queues ``(B, P, D)``.

    Raises:
        InputError: the patches are too large for vectors of that length.

    Reference:
        Xiang et al., "SQUID: Deep Feature In-Painting for Unsupervised Anomaly Detection", CVPR 2023.
    """

    def __init__(
        self,
        spatial_dims: int,
        parts: int,
        channels: int,
        grid: Sequence[int],
        slots: int = 200,
        top_k: int = 5,
        heads: int = 8,
        max_length: int = 2048,
        masked_share: float = 0.95,
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.positions, self.masked_share = parts**spatial_dims, masked_share
        kept = self._kept_channels(channels, grid, heads, max_length)
        length = kept * math.prod(grid)
        self.reduce = nn.Sequential(conv(channels, kept, 1, bias=False), norm(kept), nn.ReLU(inplace=True))
        self.queues = MemoryQueues(self.positions, slots, length, top_k)
        self.attention = nn.MultiheadAttention(length, heads, batch_first=True)
        self.attention_norm = nn.LayerNorm(length)
        self.perceptron = nn.Sequential(
            nn.Linear(length, length // 4), nn.ReLU(inplace=True), nn.Linear(length // 4, length)
        )
        self.perceptron_norm = nn.LayerNorm(length)
        around = torch.tensor(neighbouring_positions(spatial_dims, parts))
        self.around: Tensor = nn.Buffer(around, persistent=False)
        self.codes: Tensor = nn.Buffer(torch.tensor(position_codes(self.positions)), persistent=False)
        self.restore = nn.Sequential(
            conv(kept + self.codes.shape[1], channels, 1, bias=False), norm(channels), nn.ReLU(inplace=True)
        )

    @staticmethod
    def _kept_channels(channels: int, grid: Sequence[int], heads: int, max_length: int) -> int:
        """A quarter of the channels, or fewer where a patch would be too long; its length divides among the heads."""
        cells = math.prod(grid)
        step = heads // math.gcd(cells, heads)
        kept = min(channels // 4, max_length // cells) // step * step
        if kept < 1:
            raise InputError(
                "patches of features do not fit the memory",
                where="image_size",
                expected=f"at most {max_length // step} cells in a patch, and {4 * step} channels or more",
                found=f"{cells} cells, {channels} channels",
                todo="choose another image_size, or a larger width",
            )
        return kept

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        reduced = self.reduce(x)
        queries = reduced.flatten(1).unflatten(0, (-1, self.positions))
        painted = self._painted(queries).reshape(reduced.shape)
        ones = [1] * (x.dim() - 2)
        codes = self.codes.to(painted.dtype).repeat([x.shape[0] // self.positions, 1]).reshape([x.shape[0], -1] + ones)
        codes = codes.expand([-1, -1] + list(x.shape[2:]))
        restored = self.restore(torch.cat([painted, codes], 1))
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if self.training:
                restored = masked_shortcut(restored, x, self.masked_share, self.positions)
        return restored, queries

    def _painted(self, queries: Tensor) -> Tensor:
        """Vectors ``(B, P, D)`` from those that the queues hold of the positions around each."""
        found = self.queues(queries).to(queries.dtype)
        beyond = torch.zeros_like(found[:, :1])
        around = torch.cat([found, beyond], 1)[:, self.around].flatten(0, 1)  # (B * P, neighbours, D)
        asked = self.attention(queries.flatten(0, 1).unsqueeze(1), around, around, need_weights=False)[0]
        painted = torch.relu(self.attention_norm(asked.squeeze(1)) + found.flatten(0, 1))
        return torch.relu(self.perceptron_norm(self.perceptron(painted)) + painted).reshape(queries.shape)

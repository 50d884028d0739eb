"""Decoder from patches of features to a whole scan."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medad_plugins.methods.squid.inpainting import masked_shortcut
from medad_plugins.methods.squid.memories import MemoryMatrices
from medad_plugins.networks.blocks.patch_grid import join_patches
from medad_plugins.networks.blocks.residual_block3 import ResidualBlock3
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["PatchDecoder"]

JOINED_LEVELS = 2  # the finest ones show the whole scan, the others its patches


class DecoderLevel(nn.Module):
    """Enlarges a map twofold, with the encoder's features there or without, and looks the result up in a memory.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the coarser map.
        out_channels: of the finer one and of this level's.
        has_skip: whether the encoder's features are taken.
        memory: see `MemoryMatrices`; None leaves it out.
        masked_share: of the locations that come from the memory in training.
        patches: that a case has become here; 1 where it is whole.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        has_skip: bool = False,
        memory: MemoryMatrices | None = None,
        masked_share: float = 0.95,
        patches: int = 1,
    ) -> None:
        super().__init__()
        self.has_skip, self.masked_share, self.patches = has_skip, masked_share, patches
        self.enlarge = UpsampleTo(spatial_dims)
        self.block = ResidualBlock3(spatial_dims, in_channels + (out_channels if has_skip else 0), out_channels)
        self.memory: nn.Module = nn.Identity() if memory is None else memory
        self.mixes = memory is not None

    def forward(self, x: Tensor, finer: Tensor) -> Tensor:
        size = [2 * edge for edge in x.shape[2:]]
        x = self.enlarge(x, size)
        x = self.block(torch.cat([finer, x], 1) if self.has_skip else x)
        found: Tensor = self.memory(x).to(x.dtype)
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if self.training and self.mixes:
                found = masked_shortcut(found, x, self.masked_share, self.patches)
        return found


class PatchDecoder(nn.Module):
    """Rebuilds a scan from the deepest features of its patches, which are joined for the finest two levels.

    The levels before these take the encoder's features and, with slots, put each quarter (in 2D) of a patch's map
    through a memory of its own.

    Args:
        spatial_dims: 2 or 3.
        out_channels: of the scan.
        parts: patches along each edge of the scan.
        widths: channels of the encoder's levels, finest first.
        patch_size: edges of a patch at the finest level.
        slots: of the memories; 0 leaves them out.
        top_k: see `medad_plugins.networks.blocks.memory_addressing.look_up`.
        masked_share: of the locations that come from a memory in training.

    Shape:
        the deepest features ``(B * positions, widths[-1], *grid)`` and those of the finer levels of the patches, finest
        first, to the scan ``(B, out_channels, *spatial)``, 0..1, and the maps of all levels, deepest first.
    """

    def __init__(
        self,
        spatial_dims: int,
        out_channels: int,
        parts: int,
        widths: Sequence[int],
        patch_size: Sequence[int],
        slots: int = 0,
        top_k: int = 5,
        masked_share: float = 0.95,
    ) -> None:
        super().__init__()
        depth = len(widths) - 1
        self.parts, self.join_at = parts, max(0, depth - JOINED_LEVELS)
        levels: list[nn.Module] = []
        for index in range(depth):
            finer = depth - 1 - index
            channels = (widths[finer + 1], widths[finer])
            if index >= self.join_at:
                levels.append(DecoderLevel(spatial_dims, *channels))
                continue
            edges = [edge // 2**finer // parts for edge in patch_size]
            memory = MemoryMatrices(widths[finer], edges, parts, slots, top_k) if slots else None
            levels.append(
                DecoderLevel(
                    spatial_dims,
                    *channels,
                    has_skip=True,
                    memory=memory,
                    masked_share=masked_share,
                    patches=parts**spatial_dims,
                )
            )
        self.levels = nn.ModuleList(levels)
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, 1)

    def forward(self, deepest: Tensor, finer: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        x = deepest
        maps: list[Tensor] = []
        for index, level in enumerate(self.levels):
            if index == self.join_at:
                x = join_patches(x, self.parts)
            x = level(x, finer[len(finer) - 1 - index])
            maps.append(x)
        return torch.sigmoid(self.head(x)), maps

"""Decoder from the deepest of a backbone's feature maps back to the finer ones, whatever backbone it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.blocks.init_convolutions import init_convolutions
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["TapDecoder"]


class TapBlock(nn.Module):
    """Residual block without a last ReLU: 3x3 convolution, norm, ReLU, enlarge, 3x3 convolution, norm; plus shortcut.

    The shortcut of a block that enlarges, or changes the channels, is a 1x1 convolution, the enlarging and a norm.

    Shape:
        ``(B, in_channels, *grid)`` and a size to ``(B, out_channels, *size)``, of any sign.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        inner: int,
        enlarges: bool,
        norm_momentum: float,
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.enlarges = enlarges
        self.enlarge = UpsampleTo(spatial_dims)
        self.conv1 = conv(in_channels, inner, 3, padding=1, bias=False)
        self.bn1 = norm(inner, momentum=norm_momentum)
        self.conv2 = conv(inner, out_channels, 3, padding=1, bias=False)
        self.bn2 = norm(out_channels, momentum=norm_momentum)
        self.shortcut: nn.Module = nn.Identity()
        self.shortcut_norm: nn.Module = nn.Identity()
        if enlarges or in_channels != out_channels:
            self.shortcut = conv(in_channels, out_channels, 1, bias=False)
            self.shortcut_norm = norm(out_channels, momentum=norm_momentum)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        out, shortcut = torch.relu(self.bn1(self.conv1(x))), self.shortcut(x)
        if self.enlarges:
            out, shortcut = self.enlarge(out, size), self.enlarge(shortcut, size)
        return self.bn2(self.conv2(out)) + self.shortcut_norm(shortcut)


class TapStage(nn.Module):
    """Blocks of one feature map; the first has the channels and the grid changed."""

    def __init__(self, blocks: Sequence[TapBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        for block in self.blocks:
            x = block(x, size)
        return x


class TapDecoder(nn.Module):
    """Decoder that mirrors a backbone by its feature maps alone: their channels and strides.

    Blocks end without a ReLU, for feature maps of any sign, as those of EfficientNet-Lite are.

    Args:
        spatial_dims: 2 or 3.
        channels: of the backbone's feature maps, finest first; the last is what is decoded.
        strides: of the same maps, not falling; from one to another of the same stride nothing is enlarged.
        blocks: for each of the finer maps.
        width: inner channels of a block, as a multiple of those that it gives.
        norm_momentum: momentum of the batch norms' running statistics.

    Shape:
        ``(B, C_K, *spatial / stride_K)`` and the grids of maps 1 to K - 1 (finest first) to a list of K - 1 feature
        maps of those maps' shapes, finest first, of any sign. Optional skips, deepest first and shaped as the maps
        decoded, are added to what the next stage takes, not to what is returned.

    Raises:
        ValueError: there is nothing to decode to, or the strides fall.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: Sequence[int],
        strides: Sequence[int],
        blocks: int = 2,
        width: int = 2,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if len(channels) < 2 or len(channels) != len(strides) or list(strides) != sorted(strides):
            raise ValueError(
                "channels and strides must be those of two maps or more, finest first, "
                f"got {list(channels)} and {list(strides)}."
            )
        if blocks < 1 or width < 1:
            raise ValueError(f"blocks and width must be at least 1, got {blocks} and {width}.")
        stages: list[nn.Module] = []
        for level in range(len(channels) - 2, -1, -1):
            own = channels[level]
            stages.append(
                TapStage(
                    [
                        TapBlock(
                            spatial_dims,
                            channels[level + 1] if place == 0 else own,
                            own,
                            inner=own * width,
                            enlarges=place == 0 and strides[level] < strides[level + 1],
                            norm_momentum=norm_momentum,
                        )
                        for place in range(blocks)
                    ]
                )
            )
        self.stages = nn.ModuleList(stages)
        init_convolutions(self, spatial_dims)

    def forward(self, x: Tensor, sizes: list[list[int]], skips: list[Tensor] | None = None) -> list[Tensor]:
        decoded: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(x, sizes[len(sizes) - 1 - index])
            decoded.insert(0, x)
            if skips is not None and index < len(skips):
                x = x + skips[index]
        return decoded

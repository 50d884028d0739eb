"""Decoder that mirrors a residual encoder, stage by stage."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.backbones import BACKBONES, STAGE_PLANES

__all__ = ["ResidualDecoder"]


class DecoderBlock(nn.Module):
    """Residual block that enlarges its input to a given grid; of the same grid, it is an ordinary residual block.

    The bottleneck form interpolates before its 3x3 convolution, the basic form before its second one; the shortcut of
    an enlarging block is a 1x1 convolution, the interpolation and a norm.

    Shape:
        ``(B, in_channels, *grid)`` and a size to ``(B, out_channels, *size)``, not negative.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, planes: int, expansion: int, enlarges: bool, norm_momentum: float
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        channels = planes * expansion
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.enlarges = enlarges
        first_kernel, last_kernel = (1, 3) if expansion > 1 else (3, 3)
        self.conv1 = conv(in_channels, planes, first_kernel, padding=first_kernel // 2, bias=False)
        self.bn1 = norm(planes, momentum=norm_momentum)
        self.conv2 = conv(planes, planes, last_kernel, padding=last_kernel // 2, bias=False)
        self.bn2 = norm(planes, momentum=norm_momentum)
        self.expand: nn.Module = nn.Identity()
        if expansion > 1:
            self.expand = nn.Sequential(
                nn.ReLU(inplace=True),
                conv(planes, channels, 1, bias=False),
                norm(channels, momentum=norm_momentum),
            )
        self.shortcut: nn.Module = nn.Identity()
        self.shortcut_norm: nn.Module = nn.Identity()
        if enlarges:
            self.shortcut = conv(in_channels, channels, 1, bias=False)
            self.shortcut_norm = norm(channels, momentum=norm_momentum)

    def _enlarge(self, x: Tensor, size: list[int]) -> Tensor:
        if not self.enlarges:
            return x
        return functional.interpolate(x, size, mode=self.mode, align_corners=False)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.expand(self.bn2(self.conv2(self._enlarge(out, size))))
        return torch.relu(out + self.shortcut_norm(self._enlarge(self.shortcut(x), size)))


class DecoderStage(nn.Module):
    """Blocks of one stage; the first enlarges to the grid of the encoder's tap."""

    def __init__(
        self, spatial_dims: int, in_channels: int, planes: int, expansion: int, blocks: int, norm_momentum: float
    ) -> None:
        super().__init__()
        channels = planes * expansion
        self.blocks = nn.ModuleList(
            DecoderBlock(spatial_dims, in_channels if i == 0 else channels, planes, expansion, i == 0, norm_momentum)
            for i in range(blocks)
        )

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        for block in self.blocks:
            x = block(x, size)
        return x


class ResidualDecoder(nn.Module):
    """Decoder from the deepest stage of a residual encoder back to its finest tap, interpolating, without skips.

    Args:
        architecture: the encoder, one of `BACKBONES`; the decoder takes its block type and blocks per stage from it.
        spatial_dims: 2 or 3.
        norm_momentum: momentum of the batch norms' running statistics.

    Shape:
        ``(B, C_4, *spatial / 32)`` and the grids of taps 1 to 3 (finest first) to a list of three feature maps of the
        taps' shapes, finest first, not negative.
    """

    def __init__(self, architecture: str, spatial_dims: int = 2, norm_momentum: float = 0.1) -> None:
        super().__init__()
        block, blocks = BACKBONES[architecture]
        expansion = block.expansion
        self.stages = nn.ModuleList(
            DecoderStage(
                spatial_dims,
                STAGE_PLANES[level + 1] * expansion,
                STAGE_PLANES[level],
                expansion,
                blocks[level],
                norm_momentum,
            )
            for level in (2, 1, 0)
        )
        for module in self.modules():
            if isinstance(module, Conv[Conv.CONV, spatial_dims]):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, sizes: list[list[int]]) -> list[Tensor]:
        decoded: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(x, sizes[len(sizes) - 1 - index])
            decoded.insert(0, x)
        return decoded

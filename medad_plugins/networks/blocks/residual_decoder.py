"""Decoder that mirrors a residual encoder, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.backbones import BACKBONES, STAGE_PLANES, inner_width
from medad_plugins.networks.blocks.init_convolutions import init_convolutions
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["ResidualDecoder"]

UPSAMPLINGS = ("interpolate", "transposed")


class DecoderBlock(nn.Module):
    """Residual block that enlarges its input to a given grid; of the same grid, it is an ordinary residual block.

    With ``"interpolate"`` the bottleneck form interpolates before its 3x3 convolution, the basic form before its second
    one, and the shortcut of an enlarging block is a 1x1 convolution, the interpolation and a norm. With
    ``"transposed"`` a transposed convolution of kernel and stride 2 stands for the bottleneck's 3x3 convolution, for
    the basic form's first one, and in the shortcut; where twice the grid is not the requested one, it is interpolated
    the rest of the way.

    Shape:
        ``(B, in_channels, *grid)`` and a size to ``(B, out_channels, *size)``, not negative.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        planes: int,
        expansion: int,
        enlarges: bool,
        norm_momentum: float,
        upsampling: str = "interpolate",
        width: int = 1,
    ) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        grow = Conv[Conv.CONVTRANS, spatial_dims]
        channels, inner = planes * expansion, planes * width
        transposes = enlarges and upsampling == "transposed"
        self.enlarges = enlarges
        self.enlarge = UpsampleTo(spatial_dims)
        # where the transposed convolution stands: the basic form's first place, the bottleneck's second
        self.grows_first = transposes and expansion == 1
        first_kernel = 1 if expansion > 1 else 3
        if self.grows_first:
            self.conv1 = grow(in_channels, inner, 2, stride=2, bias=False)
        else:
            self.conv1 = conv(in_channels, inner, first_kernel, padding=first_kernel // 2, bias=False)
        self.bn1 = norm(inner, momentum=norm_momentum)
        if transposes and expansion > 1:
            self.conv2 = grow(inner, inner, 2, stride=2, bias=False)
        else:
            self.conv2 = conv(inner, inner, 3, padding=1, bias=False)
        self.grows_second = transposes and expansion > 1
        self.bn2 = norm(inner, momentum=norm_momentum)
        self.expand: nn.Module = nn.Identity()
        if expansion > 1:
            self.expand = nn.Sequential(
                nn.ReLU(inplace=True),
                conv(inner, channels, 1, bias=False),
                norm(channels, momentum=norm_momentum),
            )
        self.shortcut: nn.Module = nn.Identity()
        self.shortcut_norm: nn.Module = nn.Identity()
        if enlarges:
            if transposes:
                self.shortcut = grow(in_channels, channels, 2, stride=2, bias=False)
            else:
                self.shortcut = conv(in_channels, channels, 1, bias=False)
            self.shortcut_norm = norm(channels, momentum=norm_momentum)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        out = self.conv1(x)
        if self.grows_first:
            out = self.enlarge(out, size)
        out = torch.relu(self.bn1(out))
        if self.grows_second:
            out = self.enlarge(self.conv2(out), size)
        else:
            out = self.conv2(self.enlarge(out, size) if self.enlarges else out)
        out = self.expand(self.bn2(out))
        shortcut = self.shortcut(x)
        if self.enlarges:
            shortcut = self.enlarge(shortcut, size)
        return torch.relu(out + self.shortcut_norm(shortcut))


class DecoderStage(nn.Module):
    """Blocks of one stage; the first enlarges to the grid of the encoder's tap."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        planes: int,
        expansion: int,
        blocks: int,
        norm_momentum: float,
        upsampling: str,
        width: int,
    ) -> None:
        super().__init__()
        inputs = [in_channels] + [planes * expansion] * (blocks - 1)
        self.blocks = nn.ModuleList(
            DecoderBlock(
                spatial_dims,
                channels,
                planes,
                expansion,
                enlarges=i == 0,
                norm_momentum=norm_momentum,
                upsampling=upsampling,
                width=width,
            )
            for i, channels in enumerate(inputs)
        )

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        for block in self.blocks:
            x = block(x, size)
        return x


class ResidualDecoder(nn.Module):
    """Decoder from the deepest stage of a residual encoder back to its finest tap.

    Args:
        architecture: the encoder, one of `BACKBONES`; the decoder takes its block type and widths from it.
        spatial_dims: 2 or 3.
        norm_momentum: momentum of the batch norms' running statistics.
        upsampling: ``"interpolate"`` (encoder-decoder contrast) or ``"transposed"`` (reverse distillation).
        blocks: of the three stages, deepest first; None mirrors the encoder.

    Shape:
        ``(B, C_4, *spatial / 32)`` and the grids of taps 1 to 3 (finest first) to a list of three feature maps of the
        taps' shapes, finest first, not negative. Optional skips, deepest first and shaped as taps 3 and 2, are added to
        what the next stage takes, not to what is returned.
    """

    def __init__(
        self,
        architecture: str,
        spatial_dims: int = 2,
        norm_momentum: float = 0.1,
        upsampling: str = "interpolate",
        blocks: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling must be one of {UPSAMPLINGS}, got {upsampling!r}.")
        block, encoder_blocks = BACKBONES[architecture]
        counts = encoder_blocks[2::-1] if blocks is None else tuple(blocks)
        if len(counts) != 3:
            raise ValueError(f"blocks must be given for three stages, got {len(counts)}.")
        self.stages = nn.ModuleList(
            DecoderStage(
                spatial_dims,
                in_channels=STAGE_PLANES[level + 1] * block.expansion,
                planes=STAGE_PLANES[level],
                expansion=block.expansion,
                blocks=count,
                norm_momentum=norm_momentum,
                upsampling=upsampling,
                width=inner_width(architecture),
            )
            for level, count in zip((2, 1, 0), counts)
        )
        init_convolutions(self, spatial_dims)

    def forward(self, x: Tensor, sizes: list[list[int]], skips: list[Tensor] | None = None) -> list[Tensor]:
        decoded: list[Tensor] = []
        for index, stage in enumerate(self.stages):
            x = stage(x, sizes[len(sizes) - 1 - index])
            decoded.insert(0, x)
            if skips is not None and index < len(skips):
                x = x + skips[index]
        return decoded

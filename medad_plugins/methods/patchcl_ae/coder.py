"""Encoder and decoder with instance norms and residual blocks at an eighth of the resolution."""

from __future__ import annotations

import itertools

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn

from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["STEPS", "StrideEightDecoder", "StrideEightEncoder"]

STEPS = 3  # times that the resolution is halved


def _convolution(spatial_dims: int, in_channels: int, out_channels: int, kernel: int = 3) -> list[nn.Module]:
    conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.INSTANCE, spatial_dims]
    return [conv(in_channels, out_channels, kernel, padding=kernel // 2), norm(out_channels), nn.ReLU(inplace=True)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norms, added to what they take."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(spatial_dims, channels, channels), *_convolution(spatial_dims, channels, channels)[:2]
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.layers(x)
        return changed


class StrideEightEncoder(nn.Module):
    """A 7x7 convolution, three 3x3 ones with average pooling, residual blocks; its features at five depths.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the scan.
        width: channels of the first depth; the next have two, four, four and four times as many.
        blocks: residual ones.

    Attributes:
        channels: of the features.

    Shape:
        ``(B, in_channels, *spatial)`` to five maps: at the scan's resolution, a half, a quarter and twice an eighth.
    """

    def __init__(self, spatial_dims: int, in_channels: int, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.channels = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        pool = Pool[Pool.AVG, spatial_dims]
        depths: list[nn.Module] = [nn.Sequential(*_convolution(spatial_dims, in_channels, width, 7))]
        for before, after in itertools.pairwise(self.channels[: STEPS + 1]):
            depths.append(nn.Sequential(*_convolution(spatial_dims, before, after), pool(2)))
        depths.append(nn.Sequential(*(ResidualBlock(spatial_dims, 4 * width) for _ in range(blocks))))
        self.depths = nn.ModuleList(depths)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = image
        features: list[Tensor] = []
        for depth in self.depths:
            x = depth(x)
            features.append(x)
        return features


class StrideEightDecoder(nn.Module):
    """`StrideEightEncoder` mirrored without residual blocks: thrice linear doubling and a 3x3 convolution, then 7x7.

    Args:
        spatial_dims: 2 or 3.
        out_channels: of the scan.
        width: of the encoder.

    Shape:
        ``(B, 4 * width, *spatial / 8)`` to ``(B, out_channels, *spatial)``, -1..1.
    """

    def __init__(self, spatial_dims: int, out_channels: int, width: int = 64) -> None:
        super().__init__()
        widths = [4 * width, 4 * width, 2 * width, width]
        self.levels = nn.ModuleList(
            nn.Sequential(*_convolution(spatial_dims, before, after)) for before, after in itertools.pairwise(widths)
        )
        self.head = Conv[Conv.CONV, spatial_dims](width, out_channels, 7, padding=3)
        self.enlarge = UpsampleTo(spatial_dims)

    def forward(self, features: Tensor) -> Tensor:
        x = features
        for level in self.levels:
            size = [2 * edge for edge in x.shape[2:]]
            x = level(self.enlarge(x, size))
        return torch.tanh(self.head(x))

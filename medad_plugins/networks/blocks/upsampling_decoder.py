"""Decoder from features to an image by transposed convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UpsamplingDecoder"]


class UpsamplingDecoder(nn.Module):
    """Image from features of a coarser grid, in as many doublings as it has widths, values -1..1.

    A doubling is a transposed convolution, norm, ReLU, 3x3 convolution, norm, ReLU; the last is a transposed
    convolution and a tanh alone.

    Args:
        spatial_dims: 2 or 3.
        widths: channels that the doublings take, first to last.
        out_channels: of the image.
        covers: whether the grid covers the image and no more, whatever the edge of a cell, see `FeatureTaps`.

    Shape:
        ``(B, widths[0], *grid)`` and the image's size to ``(B, out_channels, *size)``; what the grid's last cells show
        beyond the image is cut off, where there is no beyond the image is resized.
    """

    def __init__(self, spatial_dims: int, widths: Sequence[int], out_channels: int, covers: bool = False) -> None:
        super().__init__()
        self.covers = covers
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        grow, conv = Conv[Conv.CONVTRANS, spatial_dims], Conv[Conv.CONV, spatial_dims]
        norm = Norm[Norm.BATCH, spatial_dims]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [grow(before, after, 2, stride=2, bias=False), norm(after), nn.ReLU(inplace=True)]
            layers += [conv(after, after, 3, padding=1, bias=False), norm(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, grow(widths[-1], out_channels, 2, stride=2))

    def forward(self, features: Tensor, size: list[int]) -> Tensor:
        image = self.layers(features)
        if self.covers:
            return torch.tanh(functional.interpolate(image, size, mode=self.mode, align_corners=False))
        for axis, edge in enumerate(size):
            image = image.narrow(2 + axis, 0, edge)
        return torch.tanh(image)

"""Encoder-decoder of wide pre-activation residual blocks, without skip connections."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["WideResidualCoder"]


class PreactivationBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice, plus a shortcut.

    Where the shortcut cannot be the input itself it is a 1x1 convolution of the activated input.

    Shape:
        ``(B, in_channels, *grid)`` to ``(B, out_channels, *grid / stride)``, rounded up.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
        self.norm1 = norm(in_channels)
        self.conv1 = conv(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm2 = norm(out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1, bias=False)
        self.projects = in_channels != out_channels or stride != 1
        self.shortcut: nn.Module = nn.Identity()
        if self.projects:
            self.shortcut = conv(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.norm1(x))
        out = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        return out + self.shortcut(active if self.projects else x)


class WideResidualCoder(nn.Module):
    """Image to one logit a pixel: all that passes from encoder to decoder is the deepest grid.

    A 3x3 convolution, a block of the image's own grid, blocks of stride 2; then as many blocks that each follow a
    linear interpolation to the grid before, a norm, ReLU and a 3x3 convolution. Only that last one has a bias.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels of the first convolution and of the encoder's blocks; the paper's are the default.

    Shape:
        ``(B, in_channels, *spatial)`` to ``(B, 1, *spatial)``, of any size.

    Reference:
        Tan et al., "Detecting Outliers with Foreign Patch Interpolation", MELBA 2022; Zagoruyko and Komodakis, "Wide
        Residual Networks", BMVC 2016.
    """

    def __init__(
        self, spatial_dims: int = 2, in_channels: int = 1, features: Sequence[int] = (16, 64, 128, 256, 256, 256)
    ) -> None:
        super().__init__()
        if len(features) < 3 or min(features) < 1:
            raise ValueError(f"features must be at least three positive numbers, got {list(features)}.")
        conv = Conv[Conv.CONV, spatial_dims]
        self.stem = conv(in_channels, features[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            PreactivationBlock(spatial_dims, before, after, 1 if level == 0 else 2)
            for level, (before, after) in enumerate(itertools.pairwise(features))
        )
        self.enlarge = UpsampleTo(spatial_dims)
        self.decoder = nn.ModuleList(
            PreactivationBlock(spatial_dims, before, after) for before, after in itertools.pairwise(features[:0:-1])
        )
        self.norm = Norm[Norm.BATCH, spatial_dims](features[1])
        self.last = conv(features[1], 1, 3, padding=1)
        for module in self.modules():
            if isinstance(module, conv):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.zeros_(self.last.bias)

    def forward(self, image: Tensor) -> Tensor:
        sizes: list[list[int]] = []
        x = self.stem(image)
        for block in self.encoder:
            x = block(x)
            sizes.append(list(x.shape[2:]))
        for index, block in enumerate(self.decoder):
            x = block(self.enlarge(x, sizes[len(sizes) - 2 - index]))
        logits: Tensor = self.last(torch.relu(self.norm(x)))
        return logits

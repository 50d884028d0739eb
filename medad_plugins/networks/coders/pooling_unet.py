"""Convolutional encoder and decoder with max-pooling, with or without skips."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Norm, Pool
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.upsample_to import UpsampleTo

__all__ = ["PoolingUNet"]


def _two_convolutions(spatial_dims: int, in_channels: int, out_channels: int, norm_momentum: float) -> nn.Sequential:
    conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]
    layers: list[nn.Module] = []
    for before in (in_channels, out_channels):
        layers += [conv(before, out_channels, 3, padding=1, bias=False), norm(out_channels, momentum=norm_momentum)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class PoolingUNet(nn.Module):
    """Image to image: two 3x3 convolutions a level, each with batch norm and ReLU, and max-pooling between levels.

    On the way up, linear interpolation to the finer level's own size, so that sizes need not be powers of two. The last
    convolution is linear. Convolutions start from a normal distribution of standard deviation 0.02.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the image.
        out_channels: of what is made of it.
        widths: channels of the levels, finest first.
        skips: each level of the decoder also gets the encoder's features of that level; without, all must pass the
            coarsest level.
        norm_momentum: momentum of the batch norms' running statistics.

    Shape:
        ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``.

    Raises:
        InputError: the image is smaller than one cell of the coarsest level.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        skips: bool,
        norm_momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths must be two positive numbers or more, got {list(widths)}.")
        conv = Conv[Conv.CONV, spatial_dims]
        self.down = nn.ModuleList(
            _two_convolutions(spatial_dims, before, after, norm_momentum)
            for before, after in zip([in_channels, *widths], widths)
        )
        self.halve = Pool[Pool.MAX, spatial_dims](2)
        self.up = nn.ModuleList(
            _two_convolutions(spatial_dims, coarse + (fine if skips else 0), fine, norm_momentum)
            for coarse, fine in itertools.pairwise(reversed(widths))
        )
        self.head = conv(widths[0], out_channels, 3, padding=1)
        self.skips = skips
        self.enlarge = UpsampleTo(spatial_dims)
        for module in self.modules():
            if isinstance(module, conv):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def _require_size(self, image: Tensor) -> None:
        step = 2 ** len(self.up)
        if min(image.shape[2:]) < step:
            raise InputError(
                "the image is smaller than one cell of the network's coarsest level",
                where="image_size",
                expected=f"at least {step} pixels along every edge",
                found=" x ".join(str(int(edge)) for edge in image.shape[2:]),
                todo="raise --image_size",
            )

    def forward(self, image: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            self._require_size(image)
        x = image
        sizes: list[list[int]] = []
        kept: list[Tensor] = []
        for index, level in enumerate(self.down):
            if index > 0:
                x = self.halve(x)
            x = level(x)
            sizes.append(list(x.shape[2:]))
            if self.skips:
                kept.append(x)
        for index, level in enumerate(self.up):
            finer = len(sizes) - 2 - index
            x = self.enlarge(x, sizes[finer])
            if self.skips:
                x = torch.cat([x, kept[finer]], 1)
            x = level(x)
        out: Tensor = self.head(x)
        return out

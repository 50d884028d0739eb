"""Encoder and decoder of residual blocks that begin with their activation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

__all__ = ["PreActivationBlock", "make_coder"]

SLOPE = 0.2


class PreActivationBlock(nn.Module):
    """Leaky ReLU and 3x3 convolution twice, added to what came in; the grid is halved or doubled before the first.

    There is no norm, so the last convolution starts at zero: the block then changes nothing but the grid, and a deep
    row of blocks neither.

    Args:
        spatial_dims: 2 or 3.
        before, after: channels.
        resize: ``"half"`` (means), ``"double"`` (nearest) or ``"none"``.

    Shape:
        ``(B, before, *grid)`` to ``(B, after, *resized)``.
    """

    def __init__(self, spatial_dims: int, before: int, after: int, resize: str = "none") -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]

        def resized() -> nn.Module:
            if resize == "half":
                halve: nn.Module = Pool[Pool.AVG, spatial_dims](2)
                return halve
            return nn.Upsample(scale_factor=2.0, mode="nearest") if resize == "double" else nn.Identity()

        last: Any = conv(after, after, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.path = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            resized(),
            conv(before, after, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            last,
        )
        self.shortcut = nn.Sequential(resized(), nn.Identity() if before == after else conv(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.path(x)
        return y


def make_coder(
    spatial_dims: int,
    in_channels: int,
    widths: Sequence[int],
    grid: Sequence[int],
    latent_size: int,
    bottleneck: str,
    blocks: int,
) -> tuple[nn.Module, nn.Module]:
    """Encoder to a latent and decoder from it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the scan.
        widths: channels of each resolution, finest first; between two the grid is halved.
        grid: edges of the coarsest.
        latent_size: length of the latent, or its channels.
        bottleneck: ``"vector"``, a convolution over the whole coarsest grid, or ``"spatial"``, a block on it.
        blocks: residual blocks of each resolution.
    """
    conv, grow = Conv[Conv.CONV, spatial_dims], Conv[Conv.CONVTRANS, spatial_dims]

    def same(width: int, count: int) -> list[nn.Module]:
        return [PreActivationBlock(spatial_dims, width, width) for _ in range(count)]

    encoder: list[nn.Module] = [conv(in_channels, widths[0], 3, padding=1), *same(widths[0], blocks)]
    for before, after in itertools.pairwise(widths):
        encoder += [PreActivationBlock(spatial_dims, before, after, "half"), *same(after, blocks - 1)]
    deepest, kernel = widths[-1], tuple(grid)
    decoder: list[nn.Module] = []
    if bottleneck == "vector":
        encoder += [nn.LeakyReLU(SLOPE), conv(deepest, latent_size, kernel)]
        opening: Any = grow(latent_size, deepest, kernel)
        # each output sees one place of the latent, not a whole kernel's
        nn.init.normal_(opening.weight, std=1 / math.sqrt(latent_size))
        decoder += [nn.LeakyReLU(SLOPE), opening]
    else:
        encoder.append(PreActivationBlock(spatial_dims, deepest, latent_size))
        decoder.append(PreActivationBlock(spatial_dims, latent_size, deepest))
    for before, after in itertools.pairwise(widths[::-1]):
        decoder += [PreActivationBlock(spatial_dims, before, after, "double"), *same(after, blocks - 1)]
    decoder += [nn.LeakyReLU(SLOPE), conv(widths[0], in_channels, 3, padding=1)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)

"""Residual networks of Wasserstein GANs with a gradient penalty: generator, critic and encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn

from medad_plugins.networks.blocks.norm_layers import norm_layer
from medad_plugins.networks.coders.conv_family import doubling_widths

__all__ = ["CriticTrunk", "ResidualCritic", "ResidualGenerator", "trunk_widths"]


def trunk_widths(image_size: int | Sequence[int], width: int, grid: int = 4, widest: int = 8) -> list[int]:
    """Channels before the first block and after each: twice as many at each, at most ``widest`` times the first."""
    halvings = len(doubling_widths(image_size, width, grid))
    return [width * min(2**index, widest) for index in range(halvings + 1)]


def _normed(norm: str, spatial_dims: int, channels: int) -> list[nn.Module]:
    normalised = norm_layer(norm, spatial_dims, channels)
    return [*([] if normalised is None else [normalised]), nn.ReLU()]


def init_residual(network: nn.Module) -> None:
    """Start convolutions and linear layers, in place, as the public code of this architecture does; biases 0.

    Weights are uniform: of variance 4 / (fan in + fan out) on a block's path, where ReLUs halve what comes, and of
    2 / (fan in + fan out) everywhere else. He's variance of 2 / fan in for all would double the shortcuts at each
    block and make the first layer, of one channel, 60 times as strong: latents then leave the encoder saturated.

    Reference:
        Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017.
    """
    on_path = {
        layer for block in network.modules() if isinstance(block, (_Down, _Up)) for layer in block.path.modules()
    }
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            nn.init.xavier_uniform_(module.weight, gain=math.sqrt(2) if module in on_path else 1.0)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class _Down(nn.Module):
    """Norm, ReLU and 3x3 convolution twice, then means of 2 x 2; the shortcut takes means first."""

    def __init__(self, spatial_dims: int, before: int, after: int, norm: str) -> None:
        super().__init__()
        conv, pool = Conv[Conv.CONV, spatial_dims], Pool[Pool.AVG, spatial_dims]
        self.path = nn.Sequential(
            *_normed(norm, spatial_dims, before),
            conv(before, before, 3, padding=1),
            *_normed(norm, spatial_dims, before),
            conv(before, after, 3, padding=1),
            pool(2),
        )
        self.shortcut = nn.Sequential(pool(2), conv(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.path(x) + self.shortcut(x)
        return y


class _Up(nn.Module):
    """Norm, ReLU, doubling and 3x3 convolution, and again without the doubling; the shortcut doubles too."""

    def __init__(self, spatial_dims: int, before: int, after: int, norm: str) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.path = nn.Sequential(
            *_normed(norm, spatial_dims, before),
            nn.Upsample(scale_factor=2.0, mode="nearest"),
            conv(before, after, 3, padding=1),
            *_normed(norm, spatial_dims, after),
            conv(after, after, 3, padding=1),
        )
        self.shortcut = nn.Sequential(nn.Upsample(scale_factor=2.0, mode="nearest"), conv(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.path(x) + self.shortcut(x)
        return y


class CriticTrunk(nn.Module):
    """Scan to one vector of features: a 3x3 convolution, residual blocks that halve, flattened.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels.
        width: channels of the first convolution.
        norm: see `norm_layer`; not ``"batch"`` for a critic with a gradient penalty.
        grid: edge of the last feature map, or the first odd one above.

    Shape:
        ``(B, in_channels, *image_size)`` to ``(B, features)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        width: int = 64,
        norm: str = "layer",
        grid: int = 4,
    ) -> None:
        super().__init__()
        widths = trunk_widths(image_size, width, grid)
        sizes = [image_size] * spatial_dims if isinstance(image_size, int) else list(image_size)
        edges = [edge // 2 ** (len(widths) - 1) for edge in sizes]
        blocks = [_Down(spatial_dims, before, after, norm) for before, after in pairwise(widths)]
        self.layers = nn.Sequential(Conv[Conv.CONV, spatial_dims](in_channels, widths[0], 3, padding=1), *blocks)
        self.grid = [widths[-1], *edges]
        self.features = math.prod(self.grid)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image)
        return features.flatten(1)


class ResidualCritic(nn.Module):
    """Scan to a rating without limits, ``(B,)``, and the vector of features ``(B, features)`` it is taken from.

    Args:
        spatial_dims, in_channels, image_size, width, norm, grid: see `CriticTrunk`.

    Raises:
        ValueError: for batch norm, with which the penalty's gradient would be that of the whole batch.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        width: int = 64,
        norm: str = "layer",
        grid: int = 4,
    ) -> None:
        super().__init__()
        if norm == "batch":
            raise ValueError("a critic with a gradient penalty must not have batch norm.")
        self.trunk = CriticTrunk(spatial_dims, in_channels, image_size, width=width, norm=norm, grid=grid)
        self.head = nn.Linear(self.trunk.features, 1)
        init_residual(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(image)
        return self.head(features)[:, 0], features


class ResidualGenerator(nn.Module):
    """Latent vector to scan of -1..1: linear to a small grid, residual blocks that double, tanh.

    Args:
        spatial_dims: 2 or 3.
        out_channels: channels of the scan.
        image_size: edges of the scan in pixels.
        latent_size: length of the vector.
        width, grid: of the critic that it mirrors.
        norm: see `norm_layer`.

    Shape:
        ``(B, latent_size)`` to ``(B, out_channels, *image_size)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        out_channels: int,
        image_size: int | Sequence[int],
        latent_size: int = 128,
        width: int = 64,
        norm: str = "batch",
        grid: int = 4,
    ) -> None:
        super().__init__()
        widths = trunk_widths(image_size, width, grid)[::-1]
        sizes = [image_size] * spatial_dims if isinstance(image_size, int) else list(image_size)
        start = (widths[0], *(edge // 2 ** (len(widths) - 1) for edge in sizes))
        blocks = [_Up(spatial_dims, before, after, norm) for before, after in pairwise(widths)]
        self.layers = nn.Sequential(
            nn.Linear(latent_size, math.prod(start)),
            nn.Unflatten(1, start),
            *blocks,
            *_normed(norm, spatial_dims, widths[-1]),
            Conv[Conv.CONV, spatial_dims](widths[-1], out_channels, 3, padding=1),
            nn.Tanh(),
        )
        init_residual(self)

    def forward(self, latent: Tensor) -> Tensor:
        image: Tensor = self.layers(latent)
        return image

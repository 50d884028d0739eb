"""Bottlenecks of autoencoders: from a small grid of features to a latent and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai.networks.layers.factories import Conv
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.norm_layers import activation_layer, norm_layer

__all__ = [
    "BOTTLENECKS",
    "SpatialBottleneck",
    "SpatialExpansion",
    "VectorBottleneck",
    "VectorExpansion",
    "make_bottleneck",
]

BOTTLENECKS = ("vector", "spatial")


def _hidden(norm: str, spatial_dims: int, width: int, slope: float) -> list[nn.Module]:
    normalised = norm_layer(norm, spatial_dims, width)
    return [*([] if normalised is None else [normalised]), activation_layer(slope)]


class VectorBottleneck(nn.Sequential):
    """A grid of features as one vector: flattened, a hidden layer, a linear one.

    Args:
        grid: ``[channels, *edges]`` of the features.
        latent_size: length of the vector.
        hidden_size: width of the layer before it, with norm and activation; 0 leaves it out, which is DCGAN's last
            convolution over the whole grid.
        norm: of the hidden layer, see `norm_layer`; ``"batch"`` needs batches of two cases or more.
        slope: of its activation, 0 for ReLU.

    Shape:
        ``(B, *grid)`` to ``(B, latent_size)``.
    """

    def __init__(
        self, grid: Sequence[int], latent_size: int, hidden_size: int = 1024, norm: str = "batch", slope: float = 0.0
    ) -> None:
        values = math.prod(grid)
        if hidden_size == 0:
            super().__init__(nn.Linear(values, latent_size, bias=False))
            return
        hidden = [nn.Linear(values, hidden_size), *_hidden(norm, 1, hidden_size, slope)]
        super().__init__(*hidden, nn.Linear(hidden_size, latent_size))

    def forward(self, features: Tensor) -> Tensor:
        x = features.flatten(1)
        for layer in self:
            x = layer(x)
        return x


class VectorExpansion(nn.Sequential):
    """A vector as a grid of features: a hidden layer, a linear one, reshaped.

    Args:
        grid: ``[channels, *edges]`` of the features.
        latent_size: length of the vector.
        hidden_size: width of the layer after it, with norm and activation; 0 leaves it out, and norm and activation
            come after the linear layer, as in DCGAN's generator.
        norm: see `norm_layer`.
        slope: of the activation, 0 for ReLU.

    Shape:
        ``(B, latent_size)`` to ``(B, *grid)``.
    """

    def __init__(
        self, grid: Sequence[int], latent_size: int, hidden_size: int = 1024, norm: str = "batch", slope: float = 0.0
    ) -> None:
        values, spatial_dims = math.prod(grid), len(grid) - 1
        if hidden_size == 0:
            unflatten = nn.Unflatten(1, tuple(grid))
            super().__init__(
                nn.Linear(latent_size, values, bias=False), unflatten, *_hidden(norm, spatial_dims, grid[0], slope)
            )
            return
        hidden = [nn.Linear(latent_size, hidden_size), *_hidden(norm, 1, hidden_size, slope)]
        super().__init__(*hidden, nn.Linear(hidden_size, values), nn.Unflatten(1, tuple(grid)))


class SpatialBottleneck(nn.Sequential):
    """A grid of features as a grid of short vectors: two 1x1 convolutions, the first with norm and activation.

    Without strong compression it copies lesions through: its latent is ``latent_size`` long at each location.

    Args:
        grid: ``[channels, *edges]`` of the features.
        latent_size: channels of the latent.
        hidden_size: width of the layer before it; 0 leaves it out.
        norm: of the hidden layer, see `norm_layer`.
        slope: of its activation, 0 for ReLU.

    Shape:
        ``(B, *grid)`` to ``(B, latent_size, *edges)``.
    """

    def __init__(
        self, grid: Sequence[int], latent_size: int, hidden_size: int = 1024, norm: str = "batch", slope: float = 0.0
    ) -> None:
        super().__init__(*_pointwise(grid[0], hidden_size, latent_size, len(grid) - 1, norm, slope))


class SpatialExpansion(nn.Sequential):
    """A `SpatialBottleneck` mirrored, ``(B, latent_size, *edges)`` to ``(B, *grid)``; the same arguments."""

    def __init__(
        self, grid: Sequence[int], latent_size: int, hidden_size: int = 1024, norm: str = "batch", slope: float = 0.0
    ) -> None:
        super().__init__(*_pointwise(latent_size, hidden_size, grid[0], len(grid) - 1, norm, slope))


def _pointwise(
    before: int, hidden_size: int, after: int, spatial_dims: int, norm: str, slope: float
) -> list[nn.Module]:
    conv = Conv[Conv.CONV, spatial_dims]
    if hidden_size == 0:
        return [conv(before, after, 1)]
    return [conv(before, hidden_size, 1), *_hidden(norm, spatial_dims, hidden_size, slope), conv(hidden_size, after, 1)]


def make_bottleneck(
    kind: str,
    grid: Sequence[int],
    latent_size: int,
    hidden_size: int = 1024,
    norm: str = "batch",
    slope: float = 0.0,
    heads: int = 1,
) -> tuple[nn.Module, nn.Module]:
    """Bottleneck and expansion of a kind.

    Args:
        kind: ``"vector"`` or ``"spatial"``.
        grid: ``[channels, *edges]`` of the features between.
        latent_size: length of the latent, of each location where it is spatial.
        hidden_size: see `VectorBottleneck`.
        norm: see `norm_layer`.
        slope: of the activation.
        heads: how many latents the bottleneck gives, one after the other along axis 1: two for a variational one, mean
            and logarithm of the variance.

    Raises:
        InputError: the latent is longer than what it is to be a bottleneck of.
    """
    if kind not in BOTTLENECKS:
        raise ValueError(f"bottleneck must be one of {BOTTLENECKS}, got {kind!r}.")
    most = math.prod(grid) if kind == "vector" else grid[0]
    if not 1 <= latent_size <= most:
        expected = f"1 to {most}, what the encoder leaves of a scan"
        raise InputError("the latent is no bottleneck", where="latent_size", expected=expected, found=latent_size)
    if kind == "vector":
        bottleneck: nn.Module = VectorBottleneck(grid, heads * latent_size, hidden_size, norm, slope)
        return bottleneck, VectorExpansion(grid, latent_size, hidden_size, norm, slope)
    bottleneck = SpatialBottleneck(grid, heads * latent_size, hidden_size, norm, slope)
    return bottleneck, SpatialExpansion(grid, latent_size, hidden_size, norm, slope)

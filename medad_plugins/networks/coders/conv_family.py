"""Convolutional encoders and decoders: one family for autoencoders and for networks in the manner of DCGAN."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from monai.networks.layers.factories import Conv
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.networks.blocks.norm_layers import activation_layer, norm_layer
from medad_plugins.networks.blocks.spectral_norm import SpectralNorm

__all__ = ["ConvDecoder", "ConvEncoder", "doubling_widths"]

OUTPUTS = ("none", "tanh", "sigmoid")


def doubling_widths(image_size: int | Sequence[int], width: int, grid: int = 4, widest: int = 512) -> list[int]:
    """Widths of the blocks that halve an image down to a grid, twice as wide at each, as DCGAN has them.

    Args:
        image_size: edges of the image; the shortest decides.
        width: of the first block.
        grid: edge at which to stop, or the first odd one above.
        widest: no block is wider.
    """
    sizes = [image_size] if isinstance(image_size, int) else list(image_size)
    widths: list[int] = []
    while min(sizes) >= 2 * grid and not any(edge % 2 for edge in sizes):
        widths.append(min(width * 2 ** len(widths), widest))
        sizes = [edge // 2 for edge in sizes]
    if not widths:
        expected = f"even edges of at least {2 * grid} pixels"
        raise InputError("the image is too small to be halved", where="image_size", expected=expected, found=image_size)
    return widths


class ConvEncoder(nn.Sequential):
    """Convolutions of kernel 4 and stride 2, each with norm and activation, that halve a scan down to a small grid.

    The layers lie in one row, so a norm that is left out moves the names of those behind it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: edges of the scan in pixels, multiples of ``2 ** len(channels)``.
        channels: widths of the blocks.
        norm: see `norm_layer`.
        first_norm: whether the first block has one; DCGAN's has none.
        slope: of the activation, 0 for ReLU.
        bias: of the convolutions.
        spectral_norm: whether the convolutions are spectrally normalised.
        dropout: share of channels that are left out after each block in training.
        extra_blocks: blocks of a 3x3 convolution, norm and activation at the first block's resolution.

    Shape:
        ``(B, in_channels, *image_size)`` to ``(B, *grid)``, where ``grid`` is ``[channels[-1], *edges]``.

    Raises:
        InputError: the blocks cannot halve the image.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 64,
        channels: Sequence[int] = (16, 32, 64, 64),
        norm: str = "batch",
        first_norm: bool = True,
        slope: float = 0.0,
        bias: bool = False,
        spectral_norm: bool = False,
        dropout: float = 0.0,
        extra_blocks: int = 0,
    ) -> None:
        grid = self.grid_of(spatial_dims, image_size, channels)
        conv = Conv[Conv.CONV, spatial_dims]
        layers: list[nn.Module] = []
        ends: list[int] = []
        for index, (before, after) in enumerate(zip((in_channels, *channels[:-1]), channels)):
            layers += _block(
                conv(before, after, kernel_size=4, stride=2, padding=1, bias=bias),
                norm if index or first_norm else "none",
                spatial_dims,
                after,
                slope,
                spectral_norm,
            )
            for _ in range(extra_blocks if index == 0 else 0):
                same = conv(after, after, kernel_size=3, padding=1, bias=bias)
                layers += _block(same, norm, spatial_dims, after, slope, spectral_norm)
            if dropout > 0:
                layers.append(nn.Dropout2d(dropout) if spatial_dims == 2 else nn.Dropout3d(dropout))
            ends.append(len(layers) - 1)
        super().__init__(*layers)
        self.ends = ends
        self.channels = list(channels)
        self.grid = grid

    @staticmethod
    def grid_of(spatial_dims: int, image_size: int | Sequence[int], channels: Sequence[int]) -> list[int]:
        """``[channels, *edges]`` of what blocks of these widths make of an image; InputError where they cannot."""
        step = 2 ** len(channels)
        size = ensure_tuple_rep(image_size, spatial_dims)
        if not channels or any(edge % step or edge < step for edge in size):
            raise InputError(
                f"the network halves its image {len(channels)} times",
                where="image_size",
                expected=f"a multiple of {step} along every axis",
                found=" x ".join(map(str, size)),
            )
        return [channels[-1], *(edge // step for edge in size)]

    def stages(self, image: Tensor) -> list[Tensor]:
        """What every block gives, finest first; the last one is what `forward` gives."""
        taps: list[Tensor] = []
        x = image
        for index, layer in enumerate(self):
            x = layer(x)
            if index in self.ends:
                taps.append(x)
        return taps


class ConvDecoder(nn.Sequential):
    """Transposed convolutions of kernel 4 and stride 2 that double a small grid up to a scan; a `ConvEncoder` mirrored.

    Args:
        spatial_dims: 2 or 3.
        out_channels: channels of the scan.
        channels: widths of the mirrored encoder's blocks, so the last of them is that of the grid.
        norm: see `norm_layer`; the last convolution has none.
        slope: of the activation, 0 for ReLU.
        bias: of the convolutions.
        spectral_norm: whether the convolutions are spectrally normalised.
        output: ``"none"`` (linear), ``"tanh"`` or ``"sigmoid"``; the scan's range must match it.

    Shape:
        ``(B, channels[-1], *edges)`` to ``(B, out_channels, *(edges * 2 ** len(channels)))``.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        out_channels: int = 1,
        channels: Sequence[int] = (16, 32, 64, 64),
        norm: str = "batch",
        slope: float = 0.0,
        bias: bool = False,
        spectral_norm: bool = False,
        output: str = "none",
    ) -> None:
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {OUTPUTS}, got {output!r}.")
        transposed = Conv[Conv.CONVTRANS, spatial_dims]
        layers: list[nn.Module] = []
        widths = list(channels[::-1])
        for before, after in pairwise(widths):
            layers += _block(
                transposed(before, after, kernel_size=4, stride=2, padding=1, bias=bias),
                norm,
                spatial_dims,
                after,
                slope,
                spectral_norm,
            )
        last = transposed(widths[-1], out_channels, kernel_size=4, stride=2, padding=1, bias=bias)
        layers.append(SpectralNorm(last) if spectral_norm else last)
        if output != "none":
            layers.append(nn.Tanh() if output == "tanh" else nn.Sigmoid())
        super().__init__(*layers)


def _block(
    conv: nn.Module, norm: str, spatial_dims: int, channels: int, slope: float, spectral_norm: bool
) -> list[nn.Module]:
    layers: list[nn.Module] = [SpectralNorm(conv) if spectral_norm else conv]
    normalised = norm_layer(norm, spatial_dims, channels)
    if normalised is not None:
        layers.append(normalised)
    return [*layers, activation_layer(slope)]

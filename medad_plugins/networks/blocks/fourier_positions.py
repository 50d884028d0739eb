"""Where a pixel lies, as channels."""

from __future__ import annotations

import math

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

__all__ = ["FourierPositions", "PositionedConvolution"]


class FourierPositions(nn.Module):
    """Coordinates of an image's grid, and sines and cosines of random frequencies of them.

    The frequencies are drawn once from a generator of its own and travel in the state dict; the grid may have any size.

    Args:
        spatial_dims: 2 or 3.
        frequencies: how many; each gives a sine and a cosine.
        scale: standard deviation of the frequencies along each axis, in periods a unit of -1..1.
        seed: of the generator.

    Shape:
        an image ``(B, C, *spatial)`` to ``(1, channels, *spatial)``, float32, -1..1.

    Reference:
        Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions", NeurIPS 2020.
    """

    def __init__(self, spatial_dims: int, frequencies: int = 32, scale: float = 12.0, seed: int = 0) -> None:
        super().__init__()
        drawn = scale * torch.randn(spatial_dims, frequencies, generator=torch.Generator().manual_seed(seed))
        self.frequencies: Tensor = nn.Buffer(drawn)
        self.channels = spatial_dims + 2 * frequencies

    def forward(self, image: Tensor) -> Tensor:
        sizes = image.shape[2:]
        dims = len(sizes)
        phases = torch.zeros_like(self.frequencies[0]).reshape([1, -1] + [1] * dims)
        coordinates: list[Tensor] = []
        for axis in range(dims):
            edge = sizes[axis]
            # pixel centres, so that an image of another size has the same places
            along = (torch.arange(edge, device=image.device, dtype=torch.float32) + 0.5) * (2.0 / edge) - 1.0
            along = along.reshape([1, 1] + [1] * axis + [-1] + [1] * (dims - 1 - axis))
            coordinates.append(along.expand([1, 1] + list(sizes)))
            # products and sums and no matrix product: reduced precision would turn the phases into noise
            phases = phases + along * self.frequencies[axis].reshape([1, -1] + [1] * dims)
        turns = 2 * math.pi * phases
        return torch.cat(coordinates + [torch.sin(turns), torch.cos(turns)], 1)


class PositionedConvolution(nn.Module):
    """3x3 convolution of an image and of where its pixels lie.

    Equal to one convolution of both joined along the channels; its output for the places is the same for a whole batch
    and is computed once. The weights of the places are 0 at first: waves on all of many channels would drown the image,
    and it would take long to hear it again.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: of what comes out.

    Shape:
        ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.positions = FourierPositions(spatial_dims)
        self.of_image = conv(in_channels, out_channels, 3, padding=1)
        self.of_position = conv(self.positions.channels, out_channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.of_position.weight)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.of_image(image) + self.of_position(self.positions(image))
        return out

"""Embeddings of the locations of a feature grid, from the taps of a backbone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PatchEmbedding"]


def pooling_matrix(length: int, bins: int) -> Tensor:
    """Adaptive average pooling ``(bins, length)``: bin i is the mean of what lies between i and i + 1 of so many."""
    matrix = torch.zeros(bins, length)
    for i in range(bins):
        start, stop = i * length // bins, -(-(i + 1) * length // bins)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


class PooledNeighbourhoods(nn.Module):
    """A tap's share of PatchCore's embedding, as one convolution with fixed kernels.

    The features of a location and of its neighbours, channel by channel, zeros beyond the border, are pooled to
    ``dimensions``; the vectors of all taps are joined and pooled to ``dimensions`` again. All of this is linear and
    neither pooling looks far, so each value of the result is a weighted mean of few neighbours in few channels.

    Args:
        channels: of the tap.
        spatial_dims: 2 or 3.
        neighbourhood: edge of the neighbourhood.
        dimensions: of the embedding.
        index: which tap this is.
        taps: how many there are.

    Shape:
        ``(B, channels, *grid)`` to ``(B, dimensions, *grid)``, but only the values ``first`` to ``last`` of it, which
        are all that this tap has a part in.
    """

    def __init__(
        self, channels: int, spatial_dims: int, neighbourhood: int, dimensions: int, index: int, taps: int
    ) -> None:
        super().__init__()
        own = pooling_matrix(channels * neighbourhood**spatial_dims, dimensions)
        # output i is the mean of the joined values i * taps to (i + 1) * taps
        self.first, self.last = index * dimensions // taps, -(-(index + 1) * dimensions // taps)
        kernel = torch.zeros(self.last - self.first, own.shape[1])
        outputs = (torch.arange(dimensions) + index * dimensions) // taps - self.first
        kernel.index_add_(0, outputs, own / taps)
        self.groups = _blocks(kernel, channels)
        kernel = kernel.reshape([self.groups, -1, self.groups, channels // self.groups * neighbourhood**spatial_dims])
        kernel = kernel.diagonal(dim1=0, dim2=2).permute(2, 0, 1).flatten(0, 1)
        kernel = kernel.reshape([-1, channels // self.groups] + [neighbourhood] * spatial_dims).contiguous()
        self.kernel: Tensor = nn.Buffer(kernel, persistent=False)
        self.padding = neighbourhood // 2
        self.flat = spatial_dims == 2

    def forward(self, x: Tensor) -> Tensor:
        if self.flat:
            return functional.conv2d(x, self.kernel, padding=self.padding, groups=self.groups)
        return functional.conv3d(x, self.kernel, padding=self.padding, groups=self.groups)


def _blocks(kernel: Tensor, channels: int) -> int:
    """The largest number of groups of channels that do not mix in a kernel ``(outputs, channels * neighbours)``."""
    most = math.gcd(kernel.shape[0], channels)
    for groups in range(most, 1, -1):
        if most % groups == 0:
            blocks = kernel.reshape(groups, kernel.shape[0] // groups, groups, -1).abs().sum((1, 3))
            if int(blocks.count_nonzero()) == int(blocks.diagonal().count_nonzero()):
                return groups
    return 1


class PatchEmbedding(nn.Module):
    """One embedding for each location of the finest tap's grid: taps brought to that grid and joined along channels.

    With a neighbourhood, each tap's embedding of a location holds its neighbours too, pooled to ``dimensions``, and the
    joined embedding is pooled to ``dimensions`` again, as in PatchCore. Without, the taps are joined as they are.

    Args:
        channels: of the taps, finest first.
        spatial_dims: 2 or 3.
        neighbourhood: edge of the neighbourhood, odd; 1 for none.
        dimensions: width of the pooled embeddings; None joins the taps as they are.
        interpolation: of deeper taps to the finest grid: ``"nearest"`` (PaDiM) or ``"linear"`` (PatchCore).

    Shape:
        taps ``(B, C_k, *grid_k)``, finest first, to ``(B, D, *grid_1)``; ``out_channels`` is D.
    """

    def __init__(
        self,
        channels: Sequence[int],
        spatial_dims: int = 2,
        neighbourhood: int = 1,
        dimensions: int | None = None,
        interpolation: str = "nearest",
    ) -> None:
        super().__init__()
        if neighbourhood < 1 or neighbourhood % 2 == 0:
            raise ValueError(f"neighbourhood must be odd and positive, got {neighbourhood}.")
        if interpolation not in ("nearest", "linear"):
            raise ValueError(f"interpolation must be 'nearest' or 'linear', got {interpolation!r}.")
        if dimensions is None and neighbourhood > 1:
            raise ValueError("a neighbourhood is pooled: give dimensions.")
        if dimensions is not None and dimensions < len(channels):
            raise ValueError(f"dimensions must be at least {len(channels)}, one for each tap, got {dimensions}.")
        self.nearest = interpolation == "nearest"
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.per_tap = nn.ModuleList()
        for index, count in enumerate(channels):
            self.per_tap.append(
                nn.Identity()
                if dimensions is None
                else PooledNeighbourhoods(count, spatial_dims, neighbourhood, dimensions, index, len(channels))
            )
        # of these taps, the last value of the one before and the first of this are parts of the same one
        self.shared = [
            dimensions is not None and index * dimensions % len(channels) > 0 for index in range(len(channels))
        ]
        self.out_channels = sum(channels) if dimensions is None else dimensions

    def forward(self, taps: list[Tensor]) -> Tensor:
        grid = list(taps[0].shape[2:])
        parts: list[Tensor] = []
        for index, embed in enumerate(self.per_tap):
            # pooled before it is resized: both are linear, and this way round is the cheaper
            part = embed(taps[index])
            if part.shape[1] > 0:  # a tap may have been reduced to nothing
                if index > 0 and self.nearest:
                    part = functional.interpolate(part, grid, mode="nearest")
                elif index > 0:
                    part = functional.interpolate(part, grid, mode=self.mode, align_corners=False)
                if self.shared[index]:
                    before = parts.pop()
                    parts += [before[:, :-1], before[:, -1:] + part[:, :1]]
                    part = part[:, 1:]
                parts.append(part)
        return torch.cat(parts, 1)

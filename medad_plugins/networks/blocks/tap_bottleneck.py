"""One-class embedding of any backbone's feature maps, by their channels and strides alone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.layers.factories import Conv, Norm
from torch import Tensor, nn

from medad_plugins.networks.blocks.init_convolutions import init_convolutions

__all__ = ["TapBottleneck"]


class TapBottleneck(nn.Module):
    """Feature maps of rising strides brought to the coarsest grid, joined, and compressed to half of that grid.

    What `OneClassBottleneck` is to a ResNet: halving convolutions, then a residual block of stride 2. It ends without a
    ReLU, for `TapDecoder` rebuilds features of any sign.

    Args:
        spatial_dims: 2 or 3.
        channels: of the backbone's feature maps, finest first.
        strides: of the same maps; each twice the one before it.
        out_channels: of the embedding.

    Shape:
        ``(B, C_k, *spatial / stride_k)``, finest first, to ``(B, out_channels, *spatial / (2 stride_K))``, of any sign.

    Raises:
        ValueError: a stride is not twice the one before it.

    Reference:
        Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022.
    """

    def __init__(self, spatial_dims: int, channels: Sequence[int], strides: Sequence[int], out_channels: int) -> None:
        super().__init__()
        if any(later != 2 * earlier for earlier, later in pairwise(strides)):
            raise ValueError(f"each stride must be twice the one before it, got {list(strides)}.")
        conv, norm = Conv[Conv.CONV, spatial_dims], Norm[Norm.BATCH, spatial_dims]

        def halving(inputs: int, outputs: int) -> list[nn.Module]:
            return [conv(inputs, outputs, 3, stride=2, padding=1, bias=False), norm(outputs), nn.ReLU(inplace=True)]

        last = channels[-1]
        self.reduce = nn.ModuleList()
        for level in range(len(channels) - 1):
            widths = [*channels[level:-1], last]
            layers = [layer for before, after in pairwise(widths) for layer in halving(before, after)]
            self.reduce.append(nn.Sequential(*layers))
        joined = len(channels) * last
        again = conv(out_channels, out_channels, 3, padding=1, bias=False)
        self.embed = nn.Sequential(*halving(joined, out_channels), again, norm(out_channels))
        self.shortcut = nn.Sequential(conv(joined, out_channels, 1, stride=2, bias=False), norm(out_channels))
        init_convolutions(self, spatial_dims)

    def forward(self, taps: list[Tensor]) -> Tensor:
        reduced: list[Tensor] = []
        for level, reduce in enumerate(self.reduce):
            reduced.append(reduce(taps[level]))
        reduced.append(taps[len(taps) - 1])
        joined = torch.cat(reduced, 1)
        embedding: Tensor = self.embed(joined) + self.shortcut(joined)
        return embedding

"""Self-attention between the locations of a feature map."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

__all__ = ["GatedSelfAttention"]


class GatedSelfAttention(nn.Module):
    """Every location takes up what resembles it anywhere else, by a learnt gate that starts closed.

    Queries and keys are 1x1 convolutions to an eighth of the channels, values one to all of them. The softmax of the
    unscaled products runs over all locations: memory grows with their number squared.

    Args:
        channels: of the feature map.
        spatial_dims: 2 or 3.

    Shape:
        ``(B, channels, *grid)`` to the same; at the start it gives its input.

    Reference:
        Zhang et al., "Self-Attention Generative Adversarial Networks", ICML 2019.
    """

    def __init__(self, channels: int, spatial_dims: int = 2) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        width = max(1, channels // 8)
        self.query, self.key = conv(channels, width, 1), conv(channels, width, 1)
        self.value = conv(channels, channels, 1)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.query(x).flatten(2), self.key(x).flatten(2), self.value(x).flatten(2)
        attention = torch.softmax(torch.bmm(query.transpose(1, 2), key), 2)
        attended = torch.bmm(value, attention.to(value.dtype).transpose(1, 2)).reshape(x.shape)
        return self.gate * attended + x

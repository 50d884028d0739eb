"""Features predicted from around a hidden centre, and gated by channel: the blocks SSPCAB and SSMCTB."""

from __future__ import annotations

import itertools
import math

import torch
from monai.networks.layers.factories import Conv
from torch import Tensor, nn

__all__ = ["GATES", "ChannelAttentionGate", "ExcitationGate", "MaskedConvBlock"]

GATES = ("sspcab", "ssmctb")


class ExcitationGate(nn.Module):
    """A factor 0..1 of every channel by two dense layers of all channels' means (squeeze and excitation).

    Args:
        channels: of the features.
        reduction: how many times narrower the layer between is.

    Shape:
        means ``(B, channels)`` to factors ``(B, channels)``.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        width = max(1, channels // reduction)
        self.layers = nn.Sequential(nn.Linear(channels, width), nn.ReLU(), nn.Linear(width, channels), nn.Sigmoid())

    def forward(self, means: Tensor) -> Tensor:
        factors: Tensor = self.layers(means)
        return factors


class ChannelAttentionGate(nn.Module):
    """The same by attention between the channels, each of which is a token: its mean, embedded, and a learnt place.

    Args:
        channels: of the features.
        width: of the tokens, and of each head.
        heads: of the attention.

    Shape:
        means ``(B, channels)`` to factors ``(B, channels)``.
    """

    def __init__(self, channels: int, width: int = 64, heads: int = 5) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1 / math.sqrt(width)
        self.embedding = nn.Linear(1, width)
        self.places = nn.Parameter(torch.randn(channels, width))
        self.attention = nn.Linear(width, 3 * heads * width, bias=False)
        self.merging = nn.Linear(heads * width, width)

    def forward(self, means: Tensor) -> Tensor:
        tokens = self.embedding(means.unsqueeze(2)) + self.places
        # (B, C, 3 * heads * width) as query, key and value (B, heads, C, width)
        parts = self.attention(tokens).unflatten(2, [3, self.heads, -1]).permute(2, 0, 3, 1, 4)
        likeness = torch.softmax(parts[0] @ parts[1].transpose(2, 3) * self.scale, 3)
        attended = (likeness @ parts[2]).transpose(1, 2).flatten(2)
        return torch.sigmoid(self.merging(attended).mean(2))


class MaskedConvBlock(nn.Module):
    """Every place of a feature map predicted from the corners around it, without itself; then a gate by channel.

    What the predictor cannot tell from around a place is a second sign of anomalies; learnt by the squared error of
    the prediction, beside the loss of the network that it is a layer of.

    Args:
        spatial_dims: 2 or 3.
        channels: of the features.
        gate: ``"sspcab"``: squeeze and excitation; ``"ssmctb"``: attention between channels.
        kernel: edge of the convolution of every corner.
        dilation: places that are hidden around the centre on each side.

    Shape:
        ``(B, channels, *grid)`` to the same; beyond the border all is zero.

    References:
        Ristea et al., "Self-supervised predictive convolutional attentive block for anomaly detection", CVPR 2022;
        Madan et al., "Self-supervised masked convolutional transformer block for anomaly detection", TPAMI 2024.
    """

    def __init__(
        self, spatial_dims: int, channels: int, gate: str = "ssmctb", kernel: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        if gate not in GATES:
            raise ValueError(f"gate must be one of {GATES}, got {gate!r}.")
        conv = Conv[Conv.CONV, spatial_dims]
        self.corners = nn.ModuleList(conv(channels, channels, kernel) for _ in range(2**spatial_dims))
        self.steps = [list(step) for step in itertools.product((0, kernel + 2 * dilation + 1), repeat=spatial_dims)]
        self.border, self.kernel = kernel + dilation, kernel
        self.gate: nn.Module = ExcitationGate(channels) if gate == "sspcab" else ChannelAttentionGate(channels)

    def predicted(self, features: Tensor) -> Tensor:
        """What the corners tell of every place, rectified, before the gate."""
        padded = nn.functional.pad(features, [self.border] * (2 * (features.dim() - 2)))
        total = torch.zeros_like(features)
        for index, corner in enumerate(self.corners):
            seen = padded
            for axis, start in enumerate(self.steps[index]):
                seen = seen.narrow(axis + 2, start, features.shape[axis + 2] + self.kernel - 1)
            total = total + corner(seen)
        return torch.relu(total)

    def penalised(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The block's output, and the term ``block``: its mean squared difference from the features."""
        found = self(features)
        return found, {"block": (found - features).float().square().mean()}

    def forward(self, features: Tensor) -> Tensor:
        found = self.predicted(features)
        factors = self.gate(found.flatten(2).mean(2))
        return found * factors.reshape(list(factors.shape) + [1] * (features.dim() - 2))

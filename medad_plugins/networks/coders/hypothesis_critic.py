"""A critic that keeps all of several reconstructions plausible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.networks.coders.conv_family import ConvEncoder

__all__ = ["HypothesisCritic"]


class _Reversed(torch.autograd.Function):
    """Gives what it gets, and passes gradients on with the other sign."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return -gradient


class HypothesisCritic(nn.Module):
    """Tells scans from hypotheses, which learn the opposite from the same term: its gradient is turned round there.

    Hypotheses that win nowhere learn nothing from a best-of loss and could show anything, an anomaly too.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the scan.
        image_size: its edges, see `ConvEncoder`.
        channels: widths of the critic's blocks.

    Shape:
        scans ``(B, C, *spatial)``, 0..1, and a list of hypotheses of that shape, to a scalar: the mean of minus the
        logarithms of the probabilities that the critic gives the truth, added over both kinds.
    """

    def __init__(
        self, spatial_dims: int, in_channels: int, image_size: int | Sequence[int], channels: Sequence[int]
    ) -> None:
        super().__init__()
        encoder = ConvEncoder(spatial_dims, in_channels, image_size, channels, norm="none", slope=0.2)
        self.layers = nn.Sequential(encoder, nn.Flatten(), nn.Linear(math.prod(encoder.grid), 1))

    def forward(self, image: Tensor, hypotheses: Sequence[Tensor]) -> Tensor:
        real = functional.softplus(-self.layers(image * 2 - 1)).mean()
        fakes = [functional.softplus(self.layers(_Reversed.apply(each) * 2 - 1)).mean() for each in hypotheses]
        return real + torch.stack(fakes).mean()

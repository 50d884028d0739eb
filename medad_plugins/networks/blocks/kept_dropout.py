"""Dropout of channels that can be repeated: some draws are kept with the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["KeptDropout"]


class KeptDropout(nn.Module):
    """Leaves out channels, scaling the others up, in training as they are drawn and otherwise by one of the kept draws.

    So a network with dropout is an ensemble of so many networks, and what is computed of it does not change from call
    to call.

    Args:
        channels: of the features.
        rate: share of the channels that is left out, 0 to less than 1.
        samples: draws that are kept.
        seed: of them.

    Buffers:
        kept ``(samples, channels)``: factors, 0 or ``1 / (1 - rate)``.

    Shape:
        ``(B, C, *spatial)`` and the number of a draw, or -1 for a new one for each case, to ``(B, C, *spatial)``.

    Reference:
        Gal and Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.
    """

    def __init__(self, channels: int, rate: float = 0.3, samples: int = 10, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be at least 0 and less than 1, got {rate}.")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}.")
        self.rate = rate
        drawn = torch.rand(samples, channels, generator=torch.Generator().manual_seed(seed))
        self.kept: Tensor = nn.Buffer((drawn >= rate).float() / (1 - rate))

    def forward(self, features: Tensor, draw: int = -1) -> Tensor:
        ones = [1] * (features.dim() - 2)
        if draw >= 0:
            return features * self.kept[draw].to(features.dtype).reshape([1, -1] + ones)
        left = torch.rand([features.shape[0], features.shape[1]], device=features.device) >= self.rate
        return features * (left.to(features.dtype) / (1 - self.rate)).reshape([features.shape[0], -1] + ones)

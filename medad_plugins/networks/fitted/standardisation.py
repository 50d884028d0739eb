"""Standardised vectors: each value with mean 0 and deviation 1 over the normal scans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["Standardisation"]


class Standardisation(FittedModule):
    """Mean 0 and standard deviation 1 of every value of a vector, by running sums over normal ones.

    Args:
        size: length of the vectors.

    Buffers:
        count, total ``(D,)``, squares ``(D,)``, float64: sums over what was collected. shift, scale ``(D,)``: 0 and 1
        before it is fitted; a value that hardly changes is left at its own scale.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.total: Tensor = nn.Buffer(torch.zeros(size, dtype=torch.float64))
        self.squares: Tensor = nn.Buffer(torch.zeros(size, dtype=torch.float64))
        self.shift: Tensor = nn.Buffer(torch.zeros(size))
        self.scale: Tensor = nn.Buffer(torch.ones(size))

    def collect(self, vectors: Tensor) -> None:
        """Add vectors ``(n, D)``."""
        x = vectors.detach().double()
        self.count = self.count + len(x)
        self.total, self.squares = self.total + x.sum(0), self.squares + x.square().sum(0)

    def fit(self) -> None:
        """Take mean and deviation of what was collected; the sums begin anew.

        Raises:
            InputError: there are fewer than two vectors.
        """
        if int(self.count) < 2:
            raise InputError("features need at least two normal scans", found=int(self.count), todo="list more")
        mean = self.total / self.count
        deviation = (self.squares / self.count - mean.square()).clamp_min(0).sqrt()
        constant = deviation <= 1e-6 * deviation.amax().clamp_min(1e-12)
        self.shift, self.scale = mean.float(), torch.where(constant, 1.0, deviation).float()
        self.count, self.total = torch.zeros_like(self.count), torch.zeros_like(self.total)
        self.squares = torch.zeros_like(self.squares)

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "total", "squares")

    def forward(self, vectors: Tensor) -> Tensor:
        return (vectors.float() - self.shift) / self.scale

"""Scores measured in standard deviations of those of normal scans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["StandardScore"]


class StandardScore(FittedModule):
    """Mean and standard deviation of the scores of normal scans, fitted in one pass.

    Buffers:
        count: scores seen. total, squares: their sums, float64. mean, deviation: 0 and 1 until they are fitted.

    Shape:
        scores ``(B,)`` to ``(score - mean) / deviation``, ``(B,)``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.total: Tensor = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.squares: Tensor = nn.Buffer(torch.zeros((), dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.zeros(()))
        self.deviation: Tensor = nn.Buffer(torch.ones(()))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "total", "squares")

    def collect(self, scores: Tensor) -> None:
        """Add scores ``(n,)`` of normal scans."""
        values = scores.detach().double()
        self.count += len(values)
        self.total += values.sum()
        self.squares += values.square().sum()

    def fit(self) -> None:
        """Compute mean and deviation of what was collected, and begin anew.

        Raises:
            InputError: there are fewer than two scores, or they are all alike.
        """
        n = int(self.count)
        if n < 2:
            todo = "list more normal scans to train on"
            raise InputError("a deviation needs at least two normal scans", found=n, todo=todo)
        mean = self.total / n
        variance = self.squares / n - mean.square()
        # also what rounding leaves of sums of equal numbers
        if not float(variance) > 1e-14 * float(self.squares) / n:
            raise InputError("the normal scans have the same score", found=f"{n} scans", todo="list different scans")
        self.mean, self.deviation = mean.to(self.mean.dtype), variance.sqrt().to(self.deviation.dtype)
        for name in self.additive_buffers():
            setattr(self, name, torch.zeros_like(getattr(self, name)))

    def forward(self, scores: Tensor) -> Tensor:
        return (scores - self.mean) / self.deviation

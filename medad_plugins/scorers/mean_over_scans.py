"""A mean over normal scans, taken in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["MeanOverScans"]


class MeanOverScans(FittedModule):
    """Mean of what each normal scan has, of any shape; what is done with it, a subclass says in ``forward``.

    Buffers:
        count: scans seen. total: their sum, float64, empty after `fit`. mean: of the shape of one scan's values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.total: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.empty(0))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "total")

    def collect(self, values: Tensor) -> None:
        """Add the values of scans ``(B, ...)`` to the sum."""
        if self.total.numel() == 0:
            self.count = torch.zeros_like(self.count)
            self.total = torch.zeros(values.shape[1:], dtype=torch.float64, device=values.device)
        self.count += len(values)
        self.total += values.detach().double().sum(0)

    def fit(self) -> None:
        """Turn the sum into the mean, and drop it.

        Raises:
            InputError: no scan was seen.
        """
        if self.total.numel() == 0 or int(self.count) == 0:
            raise InputError("a mean needs normal scans", found=0, todo="list more normal scans to train on")
        self.mean = (self.total / self.count).float()
        self.total = self.total.new_empty(0)

"""What is usual at each location of a feature grid: a mean fitted in one pass."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.errors import InputError
from medad_plugins.scorers.fitted import FittedModule

__all__ = ["LocationMeans"]


class LocationMeans(FittedModule):
    """Mean feature map over scans, one vector for each location.

    Args:
        spatial_dims: 2 or 3.

    Buffers:
        count: scans seen. total ``(D, *grid)``: their sum, float64, empty after `fit`. mean ``(D, *grid)``.
    """

    def __init__(self, spatial_dims: int = 2) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.count: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.total: Tensor = nn.Buffer(torch.empty(0, dtype=torch.float64))
        self.mean: Tensor = nn.Buffer(torch.empty(0))

    def additive_buffers(self) -> tuple[str, ...]:
        return ("count", "total")

    def collect(self, features: Tensor) -> None:
        """Add feature maps ``(B, D, *grid)`` to the sum."""
        if self.total.numel() == 0:
            self.count = torch.zeros_like(self.count)
            self.total = torch.zeros(features.shape[1:], dtype=torch.float64, device=features.device)
        self.count += len(features)
        self.total += features.detach().double().sum(0)

    def fit(self) -> None:
        """Turn the sum into the mean, and drop it.

        Raises:
            InputError: no scan was seen.
        """
        if self.total.numel() == 0 or int(self.count) == 0:
            raise InputError("a mean needs normal scans", found=0, todo="list more normal scans to train on")
        self.mean = (self.total / self.count).float()
        self.total = self.total.new_empty(0)

    def forward(self, grid: list[int]) -> Tensor:
        """The means ``(1, D, *grid)``, interpolated where scans of another size were fitted."""
        if self.mean.numel() == 0:
            raise RuntimeError("the means have not been fitted.")
        return functional.interpolate(self.mean.unsqueeze(0), grid, mode=self.mode, align_corners=False)

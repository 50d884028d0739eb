"""What is usual at each location of a feature grid: a mean fitted in one pass."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from medad_plugins.scorers.mean_over_scans import MeanOverScans

__all__ = ["LocationMeans"]


class LocationMeans(MeanOverScans):
    """Mean feature map ``(D, *grid)`` over scans, one vector for each location, of feature maps ``(B, D, *grid)``.

    Args:
        spatial_dims: 2 or 3.
    """

    def __init__(self, spatial_dims: int = 2) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"

    def forward(self, grid: list[int]) -> Tensor:
        """The means ``(1, D, *grid)``, interpolated where scans of another size were fitted."""
        if self.mean.numel() == 0:
            raise RuntimeError("the means have not been fitted.")
        return functional.interpolate(self.mean.unsqueeze(0), grid, mode=self.mode, align_corners=False)

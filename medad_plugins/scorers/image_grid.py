"""From the map of a feature grid to the anomaly map of the image."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.scorers.pooling import MapPool
from medad_plugins.scorers.smoothing import GaussianSmoothing

__all__ = ["MapToImage"]

KEEPING = ("scale", "shift", "none")


class MapToImage(nn.Module):
    """Interpolates a map to the image grid, smooths it, and optionally keeps its score.

    Papers differ in where they take the score: on the feature grid, so that interpolation and smoothing are for the
    eye alone, or on the image grid after both.

    Args:
        spatial_dims: 2 or 3.
        pool: the reduction whose value is the score.
        sigma: Gaussian smoothing, in pixels of the image.
        align_corners: of the interpolation.
        keep_score: the score on the feature grid is kept by a factor for each case (``"scale"``, for maps that are not
            negative), by an offset (``"shift"``, for maps of any sign), or it is not (``"none"``): it is that of the
            smoothed map on the image grid.

    Shape:
        ``(B, 1, *grid)`` and the image's size to ``(B, 1, *size)``.
    """

    def __init__(
        self,
        spatial_dims: int,
        pool: MapPool,
        sigma: float = 0.0,
        align_corners: bool = False,
        keep_score: str = "scale",
    ) -> None:
        super().__init__()
        if keep_score not in KEEPING:
            raise ValueError(f"keep_score must be one of {KEEPING}, got {keep_score!r}.")
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.pool = pool
        self.smoothing = GaussianSmoothing(spatial_dims, sigma)
        self.align_corners = align_corners
        self.keep_score = keep_score

    def forward(self, grid_map: Tensor, size: list[int]) -> Tensor:
        resized = functional.interpolate(grid_map, size, mode=self.mode, align_corners=self.align_corners)
        resized = self.smoothing(resized)
        if self.keep_score == "none":
            return resized
        if self.keep_score == "shift":
            return self.pool.shifted_to(self.pool(grid_map), resized)
        return self.pool.scaled_to(self.pool(grid_map), resized)

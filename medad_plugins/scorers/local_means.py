"""Image scores from means of the map over windows, on maps that stay sharp."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.scorers.pooling import MapPool

__all__ = ["LocalMeanScore"]


class LocalMeanScore(nn.Module):
    """Scales each case's map so that its pooled value is that of the map's means over a window.

    So the score does not hang on single pixels, and the map is no less sharp than it was.

    Args:
        spatial_dims: 2 or 3.
        pool: the reduction whose value is the score.
        window: edge of the window in pixels; where the map is smaller, its own edge is taken.
        padded: windows reach beyond the border, where the map counts as zero; otherwise they lie in it entirely.

    Shape:
        ``(B, 1, *spatial)``, not negative, to the same.
    """

    def __init__(self, spatial_dims: int, pool: MapPool, window: int, padded: bool) -> None:
        super().__init__()
        if window < 1:
            raise ValueError(f"window must be positive, got {window}.")
        self.spatial_dims, self.pool, self.window, self.padded = spatial_dims, pool, window, padded

    def means(self, anomaly_map: Tensor) -> Tensor:
        """Means over the windows at every place, one axis after the other."""
        for axis in range(self.spatial_dims):
            edge = min(self.window, int(anomaly_map.shape[2 + axis]))
            kernel, padding = [1] * self.spatial_dims, [0] * self.spatial_dims
            kernel[axis] = edge
            if self.padded:
                padding[axis] = edge // 2
            if self.spatial_dims == 2:
                anomaly_map = functional.avg_pool2d(anomaly_map, kernel, [1, 1], padding)
            else:
                anomaly_map = functional.avg_pool3d(anomaly_map, kernel, [1, 1, 1], padding)
        return anomaly_map

    def forward(self, anomaly_map: Tensor) -> Tensor:
        return self.pool.scaled_to(self.pool(self.means(anomaly_map)), anomaly_map)

"""Gaussian smoothing of anomaly maps as an exportable module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GaussianSmoothing"]


class GaussianSmoothing(nn.Module):
    """Separable Gaussian filter of a one-channel map with replicated borders.

    MONAI's ``GaussianFilter`` pads with zeros, which darkens the rim of a map, and does not compile to TorchScript.

    Args:
        spatial_dims: 2 or 3.
        sigma: standard deviation in pixels of the map; 0 leaves the map as it is.

    Shape:
        ``(B, 1, *spatial)`` to the same.
    """

    def __init__(self, spatial_dims: int, sigma: float) -> None:
        super().__init__()
        if sigma < 0:
            raise ValueError(f"sigma must not be negative, got {sigma}.")
        self.spatial_dims = spatial_dims
        # the same cut at 4 sigma as SciPy's gaussian_filter
        self.radius = int(4 * sigma + 0.5)
        offsets = torch.arange(-self.radius, self.radius + 1, dtype=torch.float64)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2) if sigma > 0 else torch.ones(1, dtype=torch.float64)
        self.kernel: Tensor = nn.Buffer((kernel / kernel.sum()).float(), persistent=False)

    def forward(self, anomaly_map: Tensor) -> Tensor:
        if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
            if torch.is_autocast_enabled(anomaly_map.device.type):
                # a map is float32 whatever the network computes in: rounded to bfloat16, scores would tie
                with torch.autocast(anomaly_map.device.type, enabled=False):
                    return self._smooth(anomaly_map.float())
        return self._smooth(anomaly_map)

    def _smooth(self, anomaly_map: Tensor) -> Tensor:
        if self.radius == 0:
            return anomaly_map
        for axis in range(self.spatial_dims):
            shape = [1, 1] + [1] * self.spatial_dims
            shape[2 + axis] = -1
            padding = [0] * (2 * self.spatial_dims)
            padding[2 * (self.spatial_dims - 1 - axis)] = self.radius
            padding[2 * (self.spatial_dims - 1 - axis) + 1] = self.radius
            padded = functional.pad(anomaly_map, padding, mode="replicate")
            kernel = self.kernel.to(anomaly_map.dtype).reshape(shape)
            if self.spatial_dims == 2:
                anomaly_map = functional.conv2d(padded, kernel)
            else:
                anomaly_map = functional.conv3d(padded, kernel)
        return anomaly_map

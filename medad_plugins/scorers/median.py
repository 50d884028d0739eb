"""Median filtering of anomaly maps as an exportable module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MedianSmoothing"]


class MedianSmoothing(nn.Module):
    """The median of a map in a window around every place, borders repeated.

    MONAI's ``MedianFilter`` pads with zeros and does not compile to TorchScript.

    Args:
        spatial_dims: 2 or 3.
        window: edge of the window in pixels of the map, odd; 1 leaves the map as it is.

    Shape:
        ``(B, C, *spatial)`` to the same.

    Example:
        >>> MedianSmoothing(2, 3)(torch.eye(4)[None, None]).flatten().sum()
        tensor(2.)
    """

    def __init__(self, spatial_dims: int, window: int) -> None:
        super().__init__()
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window must be odd and positive, got {window}.")
        self.spatial_dims, self.window = spatial_dims, window

    def forward(self, anomaly_map: Tensor) -> Tensor:
        if self.window == 1:
            return anomaly_map
        padded = functional.pad(anomaly_map, [self.window // 2] * (2 * self.spatial_dims), mode="replicate")
        shifted = [padded]
        for axis in range(self.spatial_dims):
            moved: list[Tensor] = []
            for values in shifted:
                for start in range(self.window):
                    moved.append(values.narrow(2 + axis, start, int(anomaly_map.shape[2 + axis])))
            shifted = moved
        # the smallest of the upper half and the middle; unlike a median, this exists in every format of export
        count = len(shifted) // 2 + 1
        return torch.topk(torch.stack(shifted, -1), count, dim=-1).values[..., -1]

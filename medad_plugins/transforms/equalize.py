"""Histogram equalisation of the foreground."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

__all__ = ["EqualizeScand"]


class EqualizeScand(MapTransform):
    """Give every channel's foreground an even histogram, so that faint and strong contrasts become alike.

    An intensity becomes the share of the foreground that is darker, by a histogram that is interpolated linearly. The
    background counts for nothing: it would fill the lower half of the range. It stays darker than the foreground. A
    pure function of the scan, for training and inference alike.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)`` with intensities 0..1.
        threshold: share of a channel's highest intensity above which a voxel is foreground.
        bins: of the histogram.
    """

    def __init__(self, keys: KeysCollection = "image", threshold: float = 0.1, bins: int = 256) -> None:
        super().__init__(keys)
        self.threshold, self.bins = threshold, bins

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            values = torch.from_numpy(np.stack([self._equalize(channel) for channel in image.as_tensor().numpy()]))
            result[key] = MetaTensor(
                values, meta=image.meta, applied_operations=image.applied_operations, spatial_ndim=image.spatial_ndim
            )
        return result

    def _equalize(self, channel: NDArray[np.float32]) -> NDArray[np.float32]:
        foreground = channel[channel > self.threshold * channel.max()]
        if foreground.size == 0:
            return channel
        counts, edges = np.histogram(foreground, self.bins, range=(0.0, max(1.0, float(foreground.max()))))
        darker = np.concatenate([[0.0], np.cumsum(counts)]) / foreground.size
        return np.interp(channel, edges, darker).astype(np.float32)

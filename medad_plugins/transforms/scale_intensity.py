"""Intensities of every kind of scan to 0..1."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    MapTransform,
)

from medad_plugins.errors import InputError
from medad_plugins.transforms.scan_values import with_values

__all__ = ["ScaleScanIntensityd"]


_PERCENTILES = (0.5, 99.5)


class ScaleScanIntensityd(MapTransform):
    """Scale intensities to 0..1, float32.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)``.
        intensity: ``"auto"`` divides by 255 where ``meta["stored_bits"]`` is 8 and otherwise does as ``"percentile"``:
            every channel's 0.5th and 99.5th percentile become 0 and 1, clipped. ``(low, high)`` is a fixed window,
            clipped, e.g. in HU.

    Raises:
        InputError: an unknown ``intensity``.
    """

    def __init__(self, keys: KeysCollection = "image", intensity: str | Sequence[float] = "auto") -> None:
        super().__init__(keys)
        self.window: tuple[float, float] | None = None
        self.force_percentile = intensity == "percentile"
        if isinstance(intensity, str):
            is_valid = intensity in ("auto", "percentile")
        else:
            is_valid = len(intensity) == 2 and intensity[0] < intensity[1]
        if not is_valid:
            expected = "auto, percentile or a window [low, high]"
            raise InputError("unknown intensity scaling", where="intensity", expected=expected, found=intensity)
        if not isinstance(intensity, str):
            self.window = (float(intensity[0]), float(intensity[1]))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image: MetaTensor = result[key]
            scaled = self._scale(image.as_tensor(), int(image.meta.get("stored_bits", 32)))
            result[key] = with_values(image, scaled)
        return result

    def _scale(self, values: torch.Tensor, stored_bits: int) -> torch.Tensor:
        if self.window is not None:
            return _to_unit_range(values, *self.window)
        if stored_bits == 8 and not self.force_percentile:
            return values / 255.0
        return torch.stack([_percentiles_to_unit_range(channel) for channel in values])


def _to_unit_range(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return ((values - low) / (high - low)).clamp_(0.0, 1.0)


def _percentiles_to_unit_range(channel: torch.Tensor) -> torch.Tensor:
    low, high = (float(bound) for bound in np.percentile(channel.numpy(), _PERCENTILES))
    if low == high:  # nearly everything is background
        low, high = (bound.item() for bound in torch.aminmax(channel))
    return _to_unit_range(channel, low, high) if low < high else torch.zeros_like(channel)

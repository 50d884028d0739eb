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
_FOREGROUND = 0.1  # share of a channel's range above which it is no background
_SPREAD = 0.15  # what the foreground's standard deviation becomes


class ScaleScanIntensityd(MapTransform):
    """Scale intensities to 0..1, float32.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)``.
        intensity: ``"auto"`` divides by 255 where ``meta["stored_bits"]`` is 8 and otherwise does as ``"percentile"``:
            every channel's 0.5th and 99.5th percentile become 0 and 1, clipped. ``"standard"`` brings mean and standard
            deviation of every channel's foreground, what is above a tenth of its 99.5th percentile, to 0.5 and 0.15,
            clipped: for scans whose brightness or contrast differ for reasons other than disease, and for diffuse
            disease that lowers the contrast, which a residual of intensities would take for more normal.
            ``(low, high)`` is a fixed window, clipped, e.g. in HU.

    Raises:
        InputError: an unknown ``intensity``.
    """

    def __init__(self, keys: KeysCollection = "image", intensity: str | Sequence[float] = "auto") -> None:
        super().__init__(keys)
        self.window: tuple[float, float] | None = None
        self.force_percentile, self.standard = intensity == "percentile", intensity == "standard"
        if isinstance(intensity, str):
            is_valid = intensity in ("auto", "percentile", "standard")
        else:
            is_valid = len(intensity) == 2 and intensity[0] < intensity[1]
        if not is_valid:
            expected = "auto, percentile, standard or a window [low, high]"
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
        if self.standard:
            return torch.stack([_standardised(channel) for channel in values])
        if stored_bits == 8 and not self.force_percentile:
            return values / 255.0
        return torch.stack([_percentiles_to_unit_range(channel) for channel in values])


def _to_unit_range(values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return ((values - low) / (high - low)).clamp_(0.0, 1.0)


def _standardised(channel: torch.Tensor) -> torch.Tensor:
    """The foreground's mean at 0.5, its standard deviation 0.15: what is beyond 3.3 of these is clipped.

    The background stays where it is looked for: it goes from 0 to where the foreground begins.
    """
    values = channel.double()
    low, high = float(values.min()), float(np.percentile(values.numpy(), _PERCENTILES[1]))  # not one hot pixel
    border = low + _FOREGROUND * (high - low)
    inside = values[values > border]
    spread = float(inside.std(correction=0)) if inside.numel() else 0.0
    if not spread > 1e-6 * (high - low):
        return _percentiles_to_unit_range(channel)  # no contrast to bring to anything
    begin = max((border - float(inside.mean())) / spread * _SPREAD + 0.5, 0.0)
    outside = (values - low) / (border - low) * begin
    standard = (values - float(inside.mean())) / spread * _SPREAD + 0.5
    return torch.where(values > border, standard, outside).clamp(0.0, 1.0).to(torch.float32)


def _percentiles_to_unit_range(channel: torch.Tensor) -> torch.Tensor:
    low, high = (float(bound) for bound in np.percentile(channel.numpy(), _PERCENTILES))
    if low == high:  # nearly everything is background
        low, high = (bound.item() for bound in torch.aminmax(channel))
    return _to_unit_range(channel, low, high) if low < high else torch.zeros_like(channel)

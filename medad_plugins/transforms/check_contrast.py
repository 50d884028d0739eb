"""Refuses scans of which nothing is left for the network to see."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medad_plugins.errors import InputError

__all__ = ["CheckContrastd"]

# Of the network's range 0..1, a quarter of a grey level of an 8-bit picture.
_LEAST_CONTRAST = 1e-3


class CheckContrastd(MapTransform):
    """Refuse scans that are blank to the network, e.g. a CT wholly outside its window, or cropped to background.

    Comes after scaling, cropping and resizing.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)``, intensities 0..1.

    Raises:
        InputError: all values are the same, but for less than a thousandth of the range.
    """

    def __init__(self, keys: KeysCollection = "image") -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(dict(data)):
            image: MetaTensor = data[key]
            low, high = (bound.item() for bound in torch.aminmax(image.as_tensor()))
            if not high - low > _LEAST_CONTRAST:
                raise InputError(
                    "the scan is blank to the network: one value is left after scaling, cropping and resizing",
                    where=image.meta.get("filename_or_obj") or data.get("case_id"),
                    found=f"{low:g} to {high:g}",
                    todo="check the unit and rescaling of its intensities against --intensity, or leave it out",
                )
        return dict(data)

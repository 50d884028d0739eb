"""Where the body is, so that anomalies are placed in it and not in the air."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms import MapTransform
from scipy import ndimage

__all__ = ["FindBodyd"]


class FindBodyd(MapTransform):
    """Adds a mask of the body: the largest piece brighter than a share of the highest intensity, its holes filled.

    A deterministic transform, so that it is cached with the image. For organs, give a mask of your own instead.

    Args:
        keys: the image ``(C, *spatial)``.
        body_key: where the mask goes, ``(1, *spatial)`` float32, 0 or 1; empty for an image without contrast.
        threshold: share of the highest intensity.
    """

    def __init__(self, keys: KeysCollection = "image", body_key: str = "body", threshold: float = 0.1) -> None:
        super().__init__(keys)
        self.body_key, self.threshold = body_key, threshold

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        case = dict(data)
        image = np.asarray(case[self.keys[0]]).mean(0)
        pieces, count = ndimage.label(image > self.threshold * image.max())
        body = np.zeros(image.shape, dtype=bool)
        if count:
            body = ndimage.binary_fill_holes(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))
        case[self.body_key] = torch.from_numpy(body[None].astype(np.float32))
        return case

"""Reading the lesion mask of a case."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from monai.transforms import EnsureChannelFirst
from numpy.typing import NDArray

from medad_plugins.errors import InputError
from medad_plugins.transforms.load_image import LoadImageScan

__all__ = ["read_mask"]


def read_mask(path: str | os.PathLike[str], shape: tuple[int, ...], case_id: str = "") -> NDArray[np.bool_]:
    """The binary lesion mask of a case on its scan's own grid, ``(*spatial)`` in MONAI's axis order.

    Whatever is not 0 is lesion; in a JPEG, whose edges ring, what is above half of its highest value.

    Raises:
        InputError: the file cannot be read as a mask, or its shape is not ``shape``.
    """
    values = _spatial_array(path, len(shape))
    if values.shape != shape:
        raise InputError(
            "the mask does not lie on the scan's grid",
            where=f"{path} of case {case_id}" if case_id else path,
            expected=" x ".join(str(size) for size in shape),
            found=" x ".join(str(size) for size in values.shape),
            todo="list a mask of the scan's own size",
        )
    floor = float(values.max()) / 2 if Path(path).suffix.lower() in (".jpg", ".jpeg") else 0.0
    return values > floor


def _spatial_array(path: str | os.PathLike[str], spatial_dims: int) -> NDArray:
    """The highest value over the colour channels of an image file, ``(*spatial)``; transparency is no value."""
    channels = np.asarray(EnsureChannelFirst()(LoadImageScan(spatial_dims)(Path(path))))
    if channels.shape[0] in (2, 4):
        channels = channels[:-1]
    return np.asarray(channels.max(axis=0))

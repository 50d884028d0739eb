"""Scans at a spacing in millimetres, whatever their size."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Resize

from medad_plugins.errors import InputError
from medad_plugins.transforms.shrink import SmoothResized

__all__ = ["SmoothSpacingd"]

_MOST_BYTES = 2 * 2**30  # of float32 voxels: preprocessing holds several copies


class _ResizeToSpacing(Resize):
    """A resize whose size is one scan's, undone by whichever resize the preprocessing holds by then."""

    def check_transforms_match(self, transform: Mapping[Hashable, Any]) -> None:
        """The record itself says all that an inverse needs."""


class SmoothSpacingd(SmoothResized):
    """Brings scans to voxels of given edges in mm, to the whole voxel: smoothed where they shrink, linear, invertible.

    A resize to the size that a scan has at the spacing, not MONAI's Spacing: that smooths nothing, so thin things
    alias, and takes the first two axes of the affine for an image's, which a coronal or sagittal slice has not. An
    oblique scan keeps its axes. A scan's extent is kept, so its voxels differ from the spacing by less than one part in
    their number.

    Args:
        keys: keys of the images, MetaTensors ``(C, *spatial)``, float32.
        spacing: mm along each axis.
        mode: ``"bilinear"`` or ``"trilinear"``.

    Raises:
        InputError: the scan would have more than 2 GiB of voxels.
    """

    def __init__(self, keys: KeysCollection, spacing: Sequence[float], mode: str) -> None:
        super().__init__(keys, [1] * len(spacing), mode)
        self.spacing = tuple(spacing)
        self.resizer = _ResizeToSpacing(spatial_size=[1] * len(spacing), mode=mode)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        result = dict(data)
        for key, mode, align_corners, *_ in self.key_iterator(result, self.mode, self.align_corners):
            image: MetaTensor = result[key]
            size = self._size(image)
            resize = _ResizeToSpacing(spatial_size=size)
            result[key] = resize(self.smoothed(image, size), mode=mode, align_corners=align_corners, lazy=lazy)
        return result

    def _size(self, image: MetaTensor) -> list[int]:
        edges = np.linalg.norm(np.asarray(image.affine, dtype=np.float64)[:3, : len(self.spacing)], axis=0)
        shape = image.shape[1:]
        size = [max(1, round(n * edge / mm)) for n, edge, mm in zip(shape, edges.tolist(), self.spacing, strict=True)]
        need = 4 * len(image) * math.prod(size)
        if need > _MOST_BYTES:
            raise InputError(
                "the scan has too many voxels at this spacing",
                where="spacing",
                expected=f"at most {_MOST_BYTES / 2**30:g} GiB",
                found=f"{' x '.join(map(str, size))}, {need / 2**30:.1f} GiB",
                todo="give a larger --spacing, in mm",
            )
        return size

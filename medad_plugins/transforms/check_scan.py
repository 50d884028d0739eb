"""Refuses scans that cannot give a meaningful map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    MapTransform,
)
from monai.transforms.inverse import InvertibleTransform
from monai.utils import TraceKeys

from medad_plugins.data.scan import stored_bits_of
from medad_plugins.errors import InputError
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["CheckScand"]


class CheckScand(MapTransform, InvertibleTransform):
    """Refuse scans that cannot give a meaningful map.

    Takes ``(C, *spatial)``, gives a float32 MetaTensor ``(in_channels, *spatial)``, or ``(1, *spatial)`` where a grey
    scan is to be repeated for three channels (see `RepeatGreyd`); three equal channels are taken as grey for one.
    Its inverse sets the scan's own affine, free of the rounding that other inverses leave.

    Args:
        keys: keys of the images.
        spatial_dims: 2 or 3.
        in_channels: channels the network takes.
        min_size: fewest voxels along any axis.

    Raises:
        InputError: wrong number of axes or channels, too thin, NaN or infinite voxels, or one value everywhere.
    """

    def __init__(
        self, keys: KeysCollection = "image", spatial_dims: int = 2, in_channels: int = 1, min_size: int = 8
    ) -> None:
        super().__init__(keys)
        self.spatial_dims, self.in_channels, self.min_size = spatial_dims, in_channels, min_size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            meta = dict(image.meta) if isinstance(image, MetaTensor) else {}
            where = meta.get("filename_or_obj") or data.get("case_id")
            values = torch.as_tensor(plain_tensor(image))
            # readers of hosts do not say how intensities were stored
            meta.setdefault("stored_bits", 8 if values.dtype == torch.uint8 else stored_bits_of(np.dtype(np.float32)))
            values = values.to("cpu", torch.float32)
            self._check_shape(tuple(values.shape[1:]), where)
            _check_values(values, where)
            values = self._adapt_channels(values, where)
            operations = list(getattr(image, "applied_operations", []))
            checked = MetaTensor(values, meta=meta, applied_operations=operations, spatial_ndim=self.spatial_dims)
            self.push_transform(checked, extra_info={"affine": checked.affine})
            result[key] = checked
        return result

    def inverse(self, data: Any) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            transform = self.pop_transform(result[key])
            result[key].affine = transform[TraceKeys.EXTRA_INFO]["affine"]
            result[key].spatial_ndim = self.spatial_dims
        return result

    def _check_shape(self, shape: tuple[int, ...], where: object) -> None:
        found = " x ".join(str(size) for size in shape)
        if len(shape) != self.spatial_dims:
            kinds = {2: "a 2D image", 3: "a volume"}
            raise InputError(
                "the scan has the wrong number of axes",
                where=where,
                expected=kinds[self.spatial_dims],
                found=f"{kinds.get(len(shape), f'{len(shape)} axes')} of {found}",
                todo=f"set --spatial_dims {len(shape)}" if len(shape) in kinds else "convert it",
            )
        if min(shape) < self.min_size:
            expected = f"at least {self.min_size} voxels along every axis"
            raise InputError("the scan is too thin", where=where, expected=expected, found=found, todo="leave it out")

    def _adapt_channels(self, values: torch.Tensor, where: object) -> torch.Tensor:
        channels = len(values)
        if channels == self.in_channels or (channels == 1 and self.in_channels == 3):
            return values
        if self.in_channels == 1 and channels == 3 and all(torch.equal(values[0], other) for other in values[1:]):
            return values[:1]
        raise InputError(
            "the scan has the wrong number of channels",
            where=where,
            expected=self.in_channels,
            found=channels,
            todo=f"set --in_channels {channels} and train with it, or convert the scan",
        )


def _check_values(values: torch.Tensor, where: object) -> None:
    in_memory = torch.from_numpy(
        values.numpy().ravel(order="K")
    )  # four times as fast where rows are not the first axis
    low, high = (bound.item() for bound in torch.aminmax(in_memory))
    if not np.isfinite(low) or not np.isfinite(high):
        count = int((~torch.isfinite(values)).sum())
        found = f"{count} of {values.numel()}"
        todo = "replace them, e.g. with `fslmaths in -nan out`"
        raise InputError("the scan has NaN or infinite voxels", where=where, expected="none", found=found, todo=todo)
    if low == high:
        todo = "leave it out, or export it again"
        raise InputError("the scan has the same value everywhere", where=where, found=f"{low:g}", todo=todo)

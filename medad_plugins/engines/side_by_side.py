"""Batches whose input is several images of a case side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from medad_plugins.engines.slices import SliceBatch
from medad_plugins.plain_tensor import plain_tensor

__all__ = ["SideBySideBatch"]


class SideBySideBatch(SliceBatch):
    """As `SliceBatch`, but the input is several images along the channels, cut in the same places.

    Args:
        inputs: keys of the images, each ``(B, C, *spatial)``.
        slice_axis: see `SliceBatch`.
        count: see `SliceBatch`.
        target_key: see `SliceBatch`.

    Shape:
        the input is ``(B, len(inputs) * C, *spatial)``, or slices of that.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        slice_axis: int | None = None,
        count: int | None = None,
        target_key: str | Sequence[str] | None = None,
    ) -> None:
        super().__init__(slice_axis, count, target_key)
        self.inputs = list(inputs)

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        images = [batchdata[key] for key in self.inputs]
        plain = [plain_tensor(image) for image in images]
        batch: Mapping[str, Any] = {**batchdata, "image": torch.cat(plain, 1)}
        return super().__call__(batch, device, non_blocking, **kwargs)

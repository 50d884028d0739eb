"""Scans that belong together as one input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medad_plugins.engines.slices import SliceBatch

__all__ = ["JoinedBatch"]


class JoinedBatch:
    """``prepare_batch`` for MONAI's engines that joins images of a case along the channels, cut in the same places.

    Args:
        keys: of the images, in this order; ``image`` is one of them.
        slice_axis: see `SliceBatch`.
        count: see `SliceBatch`.

    Shape:
        a batch with each key ``(B, C_k, *spatial)`` to ``(B * count, sum of C_k, *slice)`` twice, as input and target.
    """

    def __init__(
        self,
        keys: Sequence[str] = ("clean", "image", "mask"),
        slice_axis: int | None = None,
        count: int | None = None,
    ) -> None:
        if "image" not in keys:
            raise ValueError(f"image must be one of the keys, got {list(keys)}.")
        self.keys = list(keys)
        self.others = [key for key in keys if key != "image"]
        self.cut = SliceBatch(slice_axis, count, self.others)

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        image, others = self.cut(batchdata, device, non_blocking, **kwargs)
        parts = {"image": image, **dict(zip(self.others, others, strict=True))}
        joined = torch.cat([parts[key] for key in self.keys], 1)
        return joined, joined

"""Volumes as batches of slices, to train a 2D network on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor

from medad_plugins.plain_tensor import plain_tensor

__all__ = ["SliceBatch", "cut_slices"]


def cut_slices(volumes: Tensor, slice_axis: int, count: int | None = None) -> Tensor:
    """Slices of volumes: all of them, or some drawn at random, without replacement while there are enough.

    Args:
        volumes: ``(B, C, *spatial)`` with three spatial axes.
        slice_axis: axis along which they are cut, 0, 1 or 2.
        count: slices of each volume; None takes all in order. They are drawn by PyTorch's generator.

    Returns:
        ``(B * count, C, *spatial without the axis)``, volume by volume.
    """
    along = volumes.movedim(2 + slice_axis, 1)  # (B, slices, C, *rest)
    if count is not None:
        depth = along.shape[1]
        rows = [torch.cat([torch.randperm(depth) for _ in range(-(-count // depth))])[:count] for _ in along]
        along = torch.stack([volume[row.to(volume.device)] for volume, row in zip(along, rows)])
    return along.flatten(0, 1).contiguous()


class SliceBatch:
    """``prepare_batch`` for MONAI's engines that cuts volumes into slices, or leaves the batch as it is.

    Args:
        slice_axis: axis along which volumes are cut, 0, 1 or 2; None leaves scans whole.
        count: slices drawn of each volume at an iteration; None takes all, as fitting methods want.
        target_key: key of a target ``(B, K, *spatial)`` that is cut in the same places, or several keys, whose targets
            are then a tuple; None takes what MONAI takes.

    Shape:
        a batch with ``image`` ``(B, C, *spatial)`` to ``(B * count, C, *slice)`` and the target.
    """

    def __init__(
        self,
        slice_axis: int | None = None,
        count: int | None = None,
        target_key: str | Sequence[str] | None = None,
    ) -> None:
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, got {count}.")
        self.slice_axis, self.count, self.target_key = slice_axis, count, target_key

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        image, target = default_prepare_batch(batchdata, device, non_blocking, **kwargs)[:2]
        image = plain_tensor(image)
        if self.target_key is None:
            return image if self.slice_axis is None else cut_slices(image, self.slice_axis, self.count), target
        keys = [self.target_key] if isinstance(self.target_key, str) else list(self.target_key)
        targets = [torch.as_tensor(plain_tensor(batchdata[key])).to(image, non_blocking=non_blocking) for key in keys]
        if self.slice_axis is not None:
            # as channels of one volume, so that all are cut in the same places
            cut = cut_slices(torch.cat([image, *targets], 1), self.slice_axis, self.count)
            image, *targets = cut.split([image.shape[1], *(target.shape[1] for target in targets)], 1)
        return image, targets[0] if isinstance(self.target_key, str) else tuple(targets)

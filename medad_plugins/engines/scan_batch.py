"""What a trainer takes of a batch: the network's input and the loss's target, whole scans or slices of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor

from medad_plugins.data.scan_format import ScanFormat
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.volume_slices import padded, upright_slices

__all__ = ["ScanBatch", "cut_slices"]


def cut_slices(volumes: Tensor, slice_axis: int | str, count: int | None = None) -> Tensor:
    """Slices of volumes: all of them, or some drawn at random, without replacement while there are enough.

    Args:
        volumes: ``(B, C, *spatial)`` with three spatial axes, in RAS where they are cut along all.
        slice_axis: axis along which they are cut, 0, 1 or 2, or ``"all"``, which makes slices upright and square.
        count: slices of each volume, along all axes together; None takes all in order. They are drawn by PyTorch's
            generator.

    Returns:
        ``(B * count, C, *spatial without the axis)``, volume by volume.
    """
    if isinstance(slice_axis, str):
        return torch.cat([_cut_along_all(volume[None], count) for volume in volumes])
    along = volumes.movedim(2 + slice_axis, 1)  # (B, slices, C, *rest)
    if count is not None:
        rows = [_drawn(along.shape[1], count) for _ in along]
        along = torch.stack([volume[row.to(volume.device)] for volume, row in zip(along, rows)])
    return along.flatten(0, 1).contiguous()


def _drawn(depth: int, count: int) -> Tensor:
    return torch.cat([torch.randperm(depth) for _ in range(-(-count // depth))])[:count]


def _cut_along_all(volume: Tensor, count: int | None) -> Tensor:
    """Slices ``(n, C, longest, longest)`` of one volume ``(1, C, *spatial)`` along its three axes, axis by axis."""
    edges = list(volume.shape[2:])
    rows = torch.arange(sum(edges)) if count is None else _drawn(sum(edges), count)
    found = []
    for axis, edge in enumerate(edges):
        own = rows - sum(edges[:axis])
        own = own[(own >= 0) & (own < edge)].to(volume.device)
        found.append(padded(upright_slices(volume, axis)[own], max(edges)))
    return torch.cat(found)


class ScanBatch:
    """``prepare_batch`` for MONAI's engines: input and target of a batch, volumes cut into slices on request.

    Args:
        scan: how scans come to the network; its ``slice_axis`` says whether volumes are cut.
        count: slices drawn of each volume at an iteration; None takes all, as fitting methods want.
        inputs: keys of the images ``(B, C_k, *spatial)`` that are joined along the channels.
        target: key of a target: ``(B, K, *spatial)`` is cut in the same places as the input, a number of each scan
            ``(B,)`` stays as it is. Several keys give a tuple; None takes what MONAI takes.

    Shape:
        the input is ``(B, sum of C_k, *spatial)``, or ``(B * count, sum of C_k, *slice)``.

    Raises:
        ValueError: for fewer than one slice.

    Example:
        >>> batch = ScanBatch(target="mask")({"image": torch.rand(2, 1, 8, 8), "mask": torch.zeros(2, 1, 8, 8)})
        >>> [tuple(part.shape) for part in batch]
        [(2, 1, 8, 8), (2, 1, 8, 8)]
    """

    def __init__(
        self,
        scan: ScanFormat | None = None,
        count: int | None = None,
        inputs: Sequence[str] = ("image",),
        target: str | Sequence[str] | None = None,
    ) -> None:
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, got {count}.")
        self.slice_axis = None if scan is None else scan.slice_axis
        self.count, self.inputs, self.target = count, list(inputs), target

    def __call__(
        self, batchdata: Any, device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Any]:
        batch = batchdata
        if self.inputs != ["image"]:
            batch = {**batchdata, "image": torch.cat([_plain(batchdata[key]) for key in self.inputs], 1)}
        image, target = default_prepare_batch(batch, device, non_blocking, **kwargs)[:2]
        image = _plain(image)
        if self.target is None:
            return image if self.slice_axis is None else cut_slices(image, self.slice_axis, self.count), target
        keys = [self.target] if isinstance(self.target, str) else list(self.target)
        targets = [_on_device(_plain(batch[key]), image, non_blocking) for key in keys]
        if self.slice_axis is not None:
            image, targets = self._cut(image, targets)
        return image, targets[0] if isinstance(self.target, str) else tuple(targets)

    def _cut(self, image: Tensor, targets: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Cut the image and the targets that have its axes as channels of one volume, so in the same places."""
        assert self.slice_axis is not None
        dims = image.dim()
        volumes = [target for target in targets if target.dim() == dims]
        cut = cut_slices(torch.cat([image, *volumes], 1), self.slice_axis, self.count)
        image, *volumes = cut.split([image.shape[1], *(volume.shape[1] for volume in volumes)], 1)
        slices = iter(volumes)
        return image, [next(slices) if target.dim() == dims else target for target in targets]


def _plain(value: Any) -> Tensor:
    """A tensor without MONAI's metadata, also of numbers in a list."""
    return torch.as_tensor(plain_tensor(value))


def _on_device(target: Tensor, image: Tensor, non_blocking: bool) -> Tensor:
    """A map in the image's precision; numbers of scans, e.g. classes, keep their own."""
    if target.dim() == image.dim():
        return target.to(image, non_blocking=non_blocking)
    return target.to(image.device, non_blocking=non_blocking)

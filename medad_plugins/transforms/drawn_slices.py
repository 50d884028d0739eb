"""Slices that are drawn of a volume, each as a scan of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.random import RandomState

from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.volume_slices import ALL_AXES, padded, turned_upright

__all__ = ["drawn_slices"]


def drawn_slices(
    case: Mapping[Any, Any], slice_axis: int | str | None, count: int, rng: RandomState
) -> list[dict[Any, Any]]:
    """The case itself, or, of a volume that a 2D network is to see, some of its slices as cases.

    Args:
        case: with ``image`` ``(C, *spatial)``, maybe with a mask ``body`` of the same grid.
        slice_axis: 0, 1 or 2 cuts along that axis, ``"all"`` along all three; None leaves the scan whole.
        count: how many are drawn, without repeats while there are enough.
        rng: what draws.
    """
    if slice_axis is None:
        return [dict(case)]
    edges = list(case["image"].shape[1:])
    # each slice by its axis and its place there
    known: list[tuple[int, int]] = [
        (k, place) for k, depth in enumerate(edges) if slice_axis in (k, ALL_AXES) for place in range(depth)
    ]
    chosen = rng.choice(len(known), count, replace=count > len(known))
    edge = max(edges) if slice_axis == ALL_AXES else None
    keys = [key for key in ("image", "body") if key in case]
    places = [known[number] for number in chosen]
    return [{**case, **{key: _slice(case[key], along, place, edge) for key in keys}} for along, place in places]


def _slice(volume: Any, axis: int, place: int, edge: int | None = None) -> Any:
    """One slice of a volume ``(C, *spatial)``; it keeps the spacing of its two axes.

    With an edge the volume is in RAS, and the slice comes upright and square, as `ScanBatch` cuts it along all axes.
    """
    values = torch.as_tensor(volume)
    values = values if edge is None else turned_upright(values[None], axis)[0]
    cut = values.select(1 + axis, place)
    cut = cut if edge is None else padded(cut[None], edge)[0]
    if not isinstance(volume, MetaTensor):
        return cut
    spacing = np.delete(np.asarray(volume.pixdim), axis)
    spacing = spacing if edge is None else spacing[::-1]  # the two axes have changed places
    plain = plain_tensor(cut)
    return MetaTensor(plain, affine=torch.diag(torch.tensor([*spacing.tolist(), 1.0])))

"""Tiles of training scans, drawn where there is something to learn from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from torch import Tensor

from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.tile_grid import TileGrid

__all__ = ["RandScanTiled"]

_FOREGROUND = 0.1  # of intensities 0 to 1
_ANYWHERE = 0.125  # share of the tiles that are drawn from anywhere, air too, for a scan has such tiles
_DRAWN = 256  # places that are looked at for one in the foreground


class RandScanTiled(Randomizable, Transform):
    """One tile of a prepared scan, another at every visit: seven of eight have their middle in the foreground.

    So a network learns the body and not the air about it. The foreground is the mask ``body`` of the case where it has
    one, else what is brighter than a tenth. A tile does not reach over the scan's border unless the scan is smaller,
    which is padded with zeros as at inference.

    Args:
        edges: of a tile, in pixels along each axis of the scan.
        key: of the image ``(C, *spatial)``; whatever else of the case has its spatial axes is cut in the same place.

    Example:
        >>> draw = RandScanTiled([16, 16]).set_random_state(0)
        >>> tuple(draw({"image": torch.rand(1, 64, 40)})["image"].shape)
        (1, 16, 16)
    """

    draws_tiles = True  # what `medad_plugins.data.draws_tiles` looks for

    def __init__(self, edges: Sequence[int], key: str = "image") -> None:
        self.grid, self.key = TileGrid(edges), key

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandScanTiled:
        super().set_random_state(seed, state)
        return self

    def randomize(self, data: Any = None) -> None:
        """The places that this visit looks at, as shares of each axis, and whether only the foreground counts."""
        self._shares = self.R.uniform(size=(_DRAWN, len(self.grid.edges)))
        self._in_foreground = self.R.uniform() >= _ANYWHERE

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        case = dict(data)
        self.randomize()
        image = plain_tensor(case[self.key])
        shape = image.shape[1:]
        middles = (self._shares * np.asarray(shape)).astype(np.intp)
        place = self._place(case, image, middles)
        for key, value in case.items():
            if isinstance(value, Tensor) and value.shape[1:] == shape:
                # a copy, for what is cached must not be changed
                case[key] = self.grid.cut(plain_tensor(value)[None], place)[0].clone()
        return case

    def _place(self, case: Mapping[Hashable, Any], image: Tensor, middles: np.ndarray) -> list[int]:
        middle = middles[0]
        if self._in_foreground:
            at = tuple(torch.from_numpy(axis) for axis in middles.T)
            body = plain_tensor(case["body"]) if "body" in case else None
            inside = image.movedim(0, -1)[at].mean(-1) > _FOREGROUND if body is None else body[0][at] > 0
            found = torch.nonzero(inside)
            middle = middles[int(found[0])] if len(found) else middle
        edges = zip(middle.tolist(), self.grid.edges, image.shape[1:], strict=True)
        return [
            -((edge - length) // 2) if length <= edge else min(max(at - edge // 2, 0), length - edge)
            for at, edge, length in edges
        ]

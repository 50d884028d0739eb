"""Networks that look at tiles, on whole scans: MONAI's sliding window with a progress, for maps and for fits alike."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

from monai.inferers import SlidingWindowInferer
from torch import Tensor
from tqdm import tqdm

from medad_plugins.inferers.precision import PrecisionInferer
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.tile_grid import TileGrid

__all__ = ["TileInferer"]

logger = logging.getLogger(__name__)

_SAID_AFTER = 20.0  # seconds, and every so many again


class TileInferer(SlidingWindowInferer):
    """Slides a network over a scan tile by tile and blends the maps, in a chosen precision.

    What is one tile already, as in training, passes as it is. The windows and weights are those of
    `medad_plugins.tile_grid.TileGrid`, not MONAI's, which weighs the borders of tiles too and holds a second volume of
    weights. What a call gives nothing of, e.g. a network's ``collect``, is shown every tile all the same. A network
    that cuts tiles itself, see `medad_plugins.networks.TileNetworks`, is shown the whole scan.

    Args:
        tiles: of the scan.
        precision: see `PrecisionInferer`.
        tiles_at_once: that pass the network together.

    Shape:
        scans ``(B, C, *spatial)`` to maps ``(B, 1, *spatial)``; tiles to whatever the network gives.

    Example:
        >>> import torch
        >>> from medad_plugins.tile_grid import TileGrid
        >>> infer = TileInferer(TileGrid([16, 16]))
        >>> infer(torch.rand(1, 1, 40, 24), torch.nn.Conv2d(1, 1, 1)).shape
        torch.Size([1, 1, 40, 24])
    """

    def __init__(self, tiles: TileGrid, precision: str = "float32", tiles_at_once: int = 8) -> None:
        super().__init__(roi_size=tiles.edges, sw_batch_size=tiles_at_once, overlap=tiles.overlap)
        self.tiles, self.per_tile = tiles, PrecisionInferer(precision)

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        image = plain_tensor(inputs)
        owner = getattr(network, "__self__", network)  # of a method
        if self.tiles.covers(image.shape[2:]) or getattr(owner, "cuts_tiles", False):
            return self.per_tile(image, network, *args, **kwargs)
        total = self.tiles.count(image.shape[2:]) * len(image)
        with _TileProgress(total) as progress:

            def look(tiles: Tensor, numbers: list[int]) -> Any:
                found = self.per_tile(tiles, network, *args, **kwargs)
                progress.advance(len(tiles))
                return found

            return self.tiles.blend(image, look, self.sw_batch_size)


class _TileProgress:
    """A bar on a terminal, and lines in a log, of scans that take long."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.began = total, 0, time.perf_counter()
        self.said = self.began
        self.bar: tqdm[Any] | None = None

    def __enter__(self) -> _TileProgress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, count: int) -> None:
        """So many more tiles are done."""
        self.done += count
        now = time.perf_counter()
        if self.bar is not None:
            self.bar.update(count)
        elif now - self.said > _SAID_AFTER and self.done < self.total:
            if sys.stderr.isatty():
                self.bar = tqdm(total=self.total, initial=self.done, desc="tiles", unit="tile", leave=False)
                return
            self.said = now
            left = (now - self.began) / self.done * (self.total - self.done)
            logger.info("tile %d of %d, %.0f s left", self.done, self.total, left)

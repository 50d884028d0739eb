"""A frozen backbone's feature maps of the training scans, computed once."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["TapCache"]

logger = logging.getLogger(__name__)

_MIB = 2**20
# beyond this half precision has no numbers; bfloat16 has, with fewer digits
_HIGHEST = 3e4


class TapCache:
    """Keeps what a frozen backbone makes of each case, in half precision, and gives it back instead of computing it.

    In memory up to a budget; what needs more goes into a file beside the results as a whole, which is mapped into
    memory and is gone with the cache, even if the process is killed.

    Args:
        cases: how many there are at most.
        folder: for the file; None never writes one, and keeps nothing beyond the budget.
        memory_budget: MiB.

    Attributes:
        current: names of the cases of the batch that is at work; None while nothing is to be remembered.
        computed, given: how many cases the backbone was asked for, and how many came from the cache.

    Example:
        >>> cache = TapCache(cases=4)
        >>> backbone = lambda image: [image * 2]
        >>> cache.current = ["a", "b"]
        >>> first, second = (cache.taps(torch.ones(2, 1, 4, 4), backbone) for _ in range(2))
        >>> cache.computed, cache.given, torch.equal(first[0], second[0])
        (2, 2, True)
    """

    def __init__(self, cases: int, folder: str | Path | None = None, memory_budget: float = 1024) -> None:
        self.cases, self.folder, self.memory_budget = cases, folder, memory_budget
        self.current: list[str] | None = None
        self.computed = self.given = 0
        self._rows: dict[str, int] = {}
        self._stores: list[Tensor] = []
        self._dtypes: list[torch.dtype] = []
        self._image_shape: tuple[int, ...] = ()
        self._file: Any = None
        self._closed = False

    def taps(self, image: Tensor, backbone: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        """Feature maps ``(B, C_k, *grid_k)`` of the current cases' images ``(B, C, *spatial)``.

        Args:
            image: of the cases, in their order; always the same for the same case.
            backbone: frozen, without randomness, no case dependent on its batch mates.
        """
        names = self.current
        if names is None or self._closed or len(names) != len(image):
            return backbone(image)
        if self._stores and tuple(image.shape[1:]) != self._image_shape:
            return backbone(image)
        missing = [place for place, name in enumerate(names) if name not in self._rows]
        fresh: list[Tensor] | None = None
        if missing:
            with torch.no_grad():
                fresh = backbone(image if len(missing) == len(names) else image[missing])
            self.computed += len(missing)
            if not self._store([names[place] for place in missing], fresh, image):
                return fresh if len(missing) == len(names) else backbone(image)
        self.given += len(names) - len(missing)
        rows = torch.tensor([self._rows[name] for name in names], device=self._stores[0].device)
        found = []
        for store, dtype in zip(self._stores, self._dtypes, strict=True):
            # the channels lie last, as a frozen backbone has them
            kept = store[rows].to(image.device, non_blocking=True).to(dtype)
            found.append(kept.movedim(-1, 1))
        return found

    def _store(self, names: Sequence[str], taps: Sequence[Tensor], image: Tensor) -> bool:
        """Keep the maps of cases; False where there is no room."""
        if not self._stores and not self._make_room(taps, image):
            self.close()
            return False
        if len(self._rows) + len(set(names)) > self.cases:
            return False
        for place, name in enumerate(names):
            row = self._rows.setdefault(name, len(self._rows))
            for store, tap in zip(self._stores, taps, strict=True):
                store[row] = tap[place].detach().movedim(0, -1).to(store.device, store.dtype)
        return True

    def _make_room(self, taps: Sequence[Tensor], image: Tensor) -> bool:
        self._image_shape = tuple(image.shape[1:])
        self._dtypes = [tap.dtype for tap in taps]
        # what is computed in bfloat16 is kept as it is
        stored = [
            torch.bfloat16 if tap.dtype == torch.bfloat16 or float(tap.abs().max()) > _HIGHEST else torch.float16
            for tap in taps
        ]
        shapes = [(self.cases, *tap.shape[2:], tap.shape[1]) for tap in taps]
        sizes = [2 * math.prod(shape) for shape in shapes]
        if sum(sizes) <= self.memory_budget * _MIB:
            made = zip(shapes, stored, strict=True)
            self._stores = [torch.empty(shape, dtype=dtype, device=image.device) for shape, dtype in made]
            where = "memory"
        elif self.folder is None:
            return False
        else:
            # without a name from the start, where the system can do that: nothing is left behind, whatever happens
            self._file = tempfile.TemporaryFile(dir=self.folder, prefix="frozen_features_")  # noqa: SIM115
            mapped = np.memmap(self._file, dtype=np.int16, mode="w+", shape=(sum(sizes) // 2,))
            parts = torch.from_numpy(mapped).split([size // 2 for size in sizes])
            self._stores = [
                part.view(dtype).reshape(shape) for part, dtype, shape in zip(parts, stored, shapes, strict=True)
            ]
            where = "a file"
        logger.info(
            "the frozen backbone's features of %d scans are computed once and kept in %s, %.0f MiB.",
            self.cases,
            where,
            sum(sizes) / _MIB,
        )
        return True

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of a network remembers nothing."""

    def close(self) -> None:
        """Forget everything, and remove the file."""
        self._closed = True
        self._rows.clear()
        self._stores = []
        if self._file is not None:
            self._file.close()
            self._file = None

"""A scan beside a copy of it that random transforms have changed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform, Randomizable
from numpy.random import RandomState

__all__ = ["ChangedCopyd"]


class ChangedCopyd(Randomizable, MapTransform):
    """Join to a scan, along the channels, a copy that random transforms have changed; the scan itself is left.

    In one tensor, so that whatever happens to the scan afterwards, e.g. cutting it into slices, happens to both.

    Args:
        keys: keys of the scans, each ``(C, *spatial)``.
        changes: transforms of arrays ``(C, *spatial)``, in order, e.g. MONAI's; they may change them in place.

    Shape:
        ``(C, *spatial)`` to ``(2 * C, *spatial)``.
    """

    def __init__(self, keys: KeysCollection, changes: Callable[..., Any] | Sequence[Callable[..., Any]]) -> None:
        MapTransform.__init__(self, keys)
        self.change = Compose(changes)

    def set_random_state(self, seed: int | None = None, state: RandomState | None = None) -> ChangedCopyd:
        super().set_random_state(seed, state)
        self.change.set_random_state(seed=int(self.R.randint(2**32, dtype="uint32")))
        return self

    def randomize(self, data: Any = None) -> None:
        """Nothing is drawn here but by the transforms."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            # MONAI's coarse transforms write into what they are given, and cached scans are used again
            changed = torch.as_tensor(self.change(image.clone())).to(image.dtype)
            result[key] = torch.cat([image, changed])
        return result

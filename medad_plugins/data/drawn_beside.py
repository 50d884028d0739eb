"""Another scan beside each, drawn anew at every visit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Sized
from typing import Any

from monai.transforms import RandomizableTransform
from monai.utils import ensure_tuple

__all__ = ["DrawnBesided"]


class DrawnBesided(RandomizableTransform):
    """Add to a case the image of another one, drawn from a data set of its own.

    Args:
        dataset: prepared cases, e.g. of `cached_dataset`.
        key: of the image there, or several keys.
        beside: key that the drawn image gets, or as many.

    Raises:
        ValueError: the data set is empty, or there are not as many of both keys.

    Example:
        >>> beside = DrawnBesided([{"image": 7}], beside="unlabelled").set_random_state(0)
        >>> beside({"image": 1})
        {'image': 1, 'unlabelled': 7}
    """

    def __init__(
        self, dataset: Sized, key: str | Sequence[str] = "image", beside: str | Sequence[str] = "unlabelled"
    ) -> None:
        super().__init__(1.0)
        if len(dataset) == 0:
            raise ValueError("there is no scan to draw.")
        self.dataset: Any = dataset
        self.names = dict(zip(ensure_tuple(beside), ensure_tuple(key), strict=True))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        drawn = self.dataset[int(self.R.randint(len(self.dataset)))]
        return {**data, **{beside: drawn[key] for beside, key in self.names.items()}}

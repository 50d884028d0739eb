"""Another scan beside each, drawn anew at every visit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.transforms import RandomizableTransform

__all__ = ["DrawnBesided"]


class DrawnBesided(RandomizableTransform):
    """Add to a case the image of another one, drawn from a data set of its own.

    Args:
        dataset: prepared cases, e.g. of `cached_dataset`.
        key: of the image there.
        beside: key that the drawn image gets.

    Raises:
        ValueError: the data set is empty.

    Example:
        >>> beside = DrawnBesided([{"image": 7}], beside="unlabelled").set_random_state(0)
        >>> beside({"image": 1})
        {'image': 1, 'unlabelled': 7}
    """

    def __init__(self, dataset: Sequence[Any], key: str = "image", beside: str = "unlabelled") -> None:
        super().__init__(1.0)
        if len(dataset) == 0:
            raise ValueError("there is no scan to draw.")
        self.dataset, self.key, self.beside = dataset, key, beside

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        drawn = self.dataset[int(self.R.randint(len(self.dataset)))]
        return {**data, self.beside: drawn[self.key]}

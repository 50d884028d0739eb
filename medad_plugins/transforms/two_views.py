"""Several views of a case, each varied by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.transforms import Compose, Randomizable
from numpy.random import RandomState

from medad_plugins.transforms.drawn_slices import drawn_slices

__all__ = ["TwoViews"]


class TwoViews(Randomizable):
    """Gives every case twice, independently varied, one after the other; what is not varied is the same in both.

    Args:
        view: random transforms of a case, in order; dictionary transforms of MONAI.
        slice_axis: 0, 1, 2 or ``"all"``: of a volume some slices along that axis, or all three, are drawn first, and
            each is a case of its own; None takes cases as they come.
        slices: how many are drawn of a volume.

    Returns of a call:
        for a case, or for each of a list of cases, two cases, all in one list.
    """

    def __init__(
        self,
        view: Callable[..., Any] | Sequence[Callable[..., Any]],
        slice_axis: int | str | None = None,
        slices: int = 8,
    ) -> None:
        self.view = Compose(view)
        self.slice_axis, self.slices = slice_axis, slices

    def set_random_state(self, seed: int | None = None, state: RandomState | None = None) -> TwoViews:
        super().set_random_state(seed, state)
        self.view.set_random_state(seed=int(self.R.randint(2**32, dtype="uint32")))
        return self

    def randomize(self, data: Any = None) -> None:
        """Nothing is drawn here but by the view."""

    def __call__(self, data: Mapping[Any, Any] | Sequence[Mapping[Any, Any]]) -> list[dict[Any, Any]]:
        cases = [data] if isinstance(data, Mapping) else data
        scans = [scan for case in cases for scan in drawn_slices(case, self.slice_axis, self.slices, self.R)]
        return [dict(self.view(dict(scan))) for scan in scans for _ in range(2)]

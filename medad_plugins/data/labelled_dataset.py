"""Training set of normal scans and a few labelled anomalies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset

from medad_plugins.data.cached_dataset import cached_dataset
from medad_plugins.data.datalists import Case, same_keys

__all__ = ["labelled_dataset"]


def labelled_dataset(
    normal: Sequence[Case],
    anomalies: Sequence[Case],
    preprocessing: Callable[..., Any],
    share: float = 0.0,
    variation: Callable[..., Any] | None = None,
) -> Dataset:
    """Normal cases and anomalies with their ``label``, prepared and cached once, anomalies as often as needed.

    Where a few are mixed with hundreds of normal scans, most batches have none of them; repeated, they are a given
    share of what is drawn.

    Args:
        normal: cases with label 0; they come first.
        anomalies: cases with label 1; there may be none.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        share: least share of anomalies, 0 to less than 1; 0 lists each once.
        variation: random transform of a prepared case; None leaves it as it is.

    Returns:
        dataset of prepared cases.

    Raises:
        InputError: as `cached_dataset` does.

    Example:
        >>> from medad_plugins.data import Cohort, ScanFormat
        >>> from medad_plugins.transforms import ScanPreprocessing
        >>> cohort = Cohort()
        >>> parts = cohort.train[:9], cohort.take_anomalies(2), ScanPreprocessing(ScanFormat(image_size=32))
        >>> [int(case["label"]) for case in labelled_dataset(*parts, share=0.3)]
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and less than 1, got {share}.")
    prepared: Any = cached_dataset(same_keys([*normal, *anomalies]), preprocessing)
    places = list(range(len(normal)))
    if anomalies:
        needed = share / (1 - share) * len(normal)
        times = max(1, -(-round(needed, 6) // len(anomalies)))
        places += int(times) * list(range(len(normal), len(prepared)))
    return Dataset(_Chosen(prepared, places), variation)


class _Chosen(Sequence[Any]):
    """Some items of a data set, which may come again."""

    def __init__(self, data: Any, places: Sequence[int]) -> None:
        self.data, self.places = data, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        return self.data[self.places[index]]

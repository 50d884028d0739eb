"""Training set of scans that are varied at every visit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import Dataset

from medad_plugins.data.cached_dataset import cached_dataset
from medad_plugins.data.datalists import Case

__all__ = ["varied_dataset"]


def varied_dataset(data: Sequence[Case], preprocessing: Callable[..., Any], variation: Callable[..., Any]) -> Dataset:
    """Cases as they are prepared, cached, and varied anew at every visit.

    Args:
        data: cases.
        preprocessing: of a case, e.g. `medad_plugins.transforms.ScanPreprocessing`.
        variation: random transform of a prepared case.

    Returns:
        dataset whose ``data`` are the prepared cases, not varied.

    Raises:
        InputError: as `cached_dataset` does.
    """
    prepared: Any = cached_dataset(data, preprocessing)
    return Dataset(prepared, variation)

"""Data sets that keep what precedes the first random transform in memory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, OneOf, RandomizableTrait, RandomOrder, SomeOf, Transform

from medad_plugins.data.case_items import dataset_layers
from medad_plugins.data.datalists import Case
from medad_plugins.errors import InputError, find_input_error

__all__ = ["cached_dataset", "draws_tiles"]

logger = logging.getLogger(__name__)

GIB = 2**30


def cached_dataset(
    data: Sequence[Case],
    transform: Callable[..., Any] | Sequence[Callable[..., Any]],
    memory_limit_gib: float = 4.0,
    num_workers: int = 0,
    progress: bool | None = None,
) -> CacheDataset:
    """Dataset that keeps what precedes the first random transform in memory, as far as it fits.

    A preprocessing that says how a tile is drawn for training (``training_tiles`` of
    `medad_plugins.transforms.ScanPreprocessing`) has one drawn after all else: whole scans are kept, tiles are given.

    Args:
        data: the cases.
        transform: transforms of a case; compositions in it may hold both deterministic and random ones.
        memory_limit_gib: limit of the cache in GiB, estimated from the first case; the rest is read on the fly. The
            processes of a machine share it: each draws from all cases and keeps a cache of its own.
        num_workers: threads that fill the cache.
        progress: whether to show a progress bar; None shows one on a terminal.

    Raises:
        InputError: there is no case, or one of the scans to be cached cannot be used.

    Example:
        >>> from medad_plugins.data import Cohort, ScanFormat
        >>> from medad_plugins.transforms import ScanPreprocessing
        >>> dataset = cached_dataset(Cohort().train[:8], ScanPreprocessing(ScanFormat(image_size=64)))
        >>> len(dataset), tuple(dataset[0]["image"].shape)
        (8, (1, 64, 64))
    """
    if not data:
        raise InputError("there is no case to load")
    drawn = _training_tiles(transform)
    transform = Compose(_steps(transform) + ([] if drawn is None else [drawn]))
    try:
        size = _cached_bytes(transform, data[0])
        memory_limit_gib /= idist.get_nproc_per_node()
        count = min(len(data), int(memory_limit_gib * GIB / max(size, 1)))
        logger.info(
            "caching %d of %d cases, about %.2f GiB (%.2f MiB a case, limit %g GiB).",
            count,
            len(data),
            count * size / GIB,
            size / 2**20,
            memory_limit_gib,
        )
        shown = sys.stderr.isatty() if progress is None else progress
        return CacheDataset(data, transform, cache_num=count, num_workers=num_workers, progress=shown)
    except Exception as error:
        found = find_input_error(error)
        if found is None:
            raise
        raise found from None


class _Deterministic(Transform):
    """A composition without randomness as one transform: MONAI takes any composition for random and caches none."""

    def __init__(self, steps: Compose) -> None:
        self.steps = steps

    def __call__(self, data: Any) -> Any:
        return self.steps(data)


def _is_random(transform: Any) -> bool:
    if isinstance(transform, Compose) and not isinstance(transform, (OneOf, RandomOrder, SomeOf)):
        return any(_is_random(step) for step in transform.transforms)
    return isinstance(transform, RandomizableTrait) or not isinstance(transform, Transform)


def _training_tiles(transform: Any) -> Any:
    """How the preprocessing among the transforms has a tile drawn; None where scans are looked at whole."""
    parts = transform if isinstance(transform, (list, tuple)) else [transform]
    return next((drawn for part in parts if (drawn := getattr(part, "training_tiles", None)) is not None), None)


def draws_tiles(dataset: Any) -> bool:
    """Whether a dataset, or one that it stands on, gives tiles of scans that are drawn at every visit."""
    transforms = [getattr(layer, "transform", None) for layer in dataset_layers(dataset)]
    return any(getattr(step, "draws_tiles", False) for one in transforms for step in getattr(one, "transforms", ()))


def _steps(transform: Any) -> list[Any]:
    """The transforms in their order; compositions with a random part are opened up, those without are one step."""
    if isinstance(transform, (list, tuple)):
        return [step for part in transform for step in _steps(part)]
    if not isinstance(transform, Compose) or isinstance(transform, (OneOf, RandomOrder, SomeOf)):
        return [transform]
    return _steps(transform.transforms) if _is_random(transform) else [_Deterministic(transform)]


def _cached_bytes(transform: Compose, case: Case) -> int:
    """Bytes that the cache holds of a case."""
    item = transform(case, end=transform.get_index_of_first(_is_random), threading=True)
    values = [value for part in (item if isinstance(item, list) else [item]) for value in part.values()]
    return sum(int(value.nbytes) for value in values if isinstance(value, (torch.Tensor, np.ndarray)))

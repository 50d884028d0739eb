"""Loading cases: cached and endless for training, tolerant of bad files for inference."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor
from monai.data.utils import list_data_collate
from monai.transforms import Compose, OneOf, Randomizable, RandomizableTrait, RandomOrder, SomeOf, Transform
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info
from torch.utils.data.distributed import DistributedSampler

from medad_plugins.data.datalists import Case
from medad_plugins.errors import InputError, find_input_error

__all__ = ["FaultTolerantLoader", "IterationLoader", "IterationSampler", "cached_dataset"]

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

    Args:
        data: the cases.
        transform: transforms of a case; compositions in it may hold both deterministic and random ones.
        memory_limit_gib: limit of the cache in GiB, estimated from the first case; the rest is read on the fly.
        num_workers: threads that fill the cache.
        progress: whether to show a progress bar; None shows one on a terminal.

    Raises:
        InputError: there is no case, or one of the scans to be cached cannot be used.
    """
    if not data:
        raise InputError("there is no case to load")
    transform = Compose(_steps(transform))
    try:
        size = _cached_bytes(transform, data[0])
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


def _random_state(*entropy: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.SeedSequence(entropy).generate_state(4))


class IterationSampler(DistributedSampler):
    """Which case comes at which place of an epoch, and a seed for its random transforms: ``(index, seed)``.

    Without replacement the cases come in one shuffle after the other, across epochs, so that each is seen equally
    often. What an epoch draws depends on ``seed`` and the epoch's number only; ranks take disjoint places. Being a
    `DistributedSampler`, MONAI's trainers tell it the epoch, also after resuming; without them it counts by itself.

    Args:
        length: number of cases.
        draws: cases an epoch, on each rank.
        seed: not negative.
        replacement: draw each place independently instead.
    """

    def __init__(self, length: int, draws: int, seed: int = 0, replacement: bool = False) -> None:
        super().__init__(range(length), num_replicas=idist.get_world_size(), rank=idist.get_rank(), seed=seed)  # type: ignore[arg-type]
        self.length, self.draws, self.replacement = length, draws, replacement

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        seeds = _random_state(self.seed, 1, epoch, self.rank).randint(2**32, size=self.draws, dtype=np.uint32)
        return zip(self._indices(epoch).tolist(), seeds.tolist(), strict=True)

    def _indices(self, epoch: int) -> np.ndarray:
        per_epoch = self.draws * self.num_replicas
        if self.replacement:
            drawn = _random_state(self.seed, 2, epoch).randint(self.length, size=per_epoch)
            return drawn[self.rank :: self.num_replicas]
        first, last = epoch * per_epoch, (epoch + 1) * per_epoch
        shuffles = range(first // self.length, (last - 1) // self.length + 1)
        drawn = np.concatenate([_random_state(self.seed, 3, number).permutation(self.length) for number in shuffles])
        start = first - shuffles[0] * self.length
        return drawn[start : start + per_epoch][self.rank :: self.num_replicas]

    def __len__(self) -> int:
        return self.draws


@dataclass(frozen=True)
class _Failure:
    """A case that could not be prepared, as a worker process sends it."""

    index: int
    sentence: str


def _sendable(item: Any) -> Any:
    """The item, in a worker process with meta data and trace of its own.

    MONAI's Orientation traces a NumPy view of the affine. Sending a tensor moves its memory, and such a view would be
    sent as whatever lies there by then: maps would be restored with a wrong orientation.
    """
    if get_worker_info() is None:
        return item
    for part in item if isinstance(item, list) else [item]:
        for image in part.values():
            if isinstance(image, MetaTensor):
                image.meta, image.applied_operations = deepcopy(image.meta), deepcopy(image.applied_operations)
    return item


class _SeededItems(TorchDataset):
    """Items of a dataset by ``(index, seed)``: the seed sets the random transforms, whichever process runs them."""

    def __init__(self, dataset: TorchDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, place: tuple[int, int]) -> Any:
        index, seed = place
        transform = getattr(self.dataset, "transform", None)
        if isinstance(transform, Randomizable):
            transform.set_random_state(seed=seed)
        try:
            return _sendable(self.dataset[index])
        except Exception as error:
            found = find_input_error(error)
            if found is None:
                raise
            return _Failure(index, str(found))


class IterationLoader(DataLoader):
    """Training loader of a fixed number of full batches an epoch, whatever the number of cases.

    The batches of an epoch, random transforms included, depend on ``seed`` and the epoch's number only: not on
    ``num_workers``, and not on whether the epochs before were run or resumed from.

    Args:
        dataset: MONAI dataset (its ``transform`` is seeded item by item), e.g. of `cached_dataset`.
        batch_size: cases a batch, may exceed the number of cases.
        epoch_length: batches an epoch; None takes as many as show every case once.
        seed: not negative.
        num_workers: loading processes, 0 to load in the training process.
        replacement: draw cases independently instead of in successive shuffles.

    Raises:
        InputError: the dataset is empty or a number is too small; while iterating, a scan that cannot be used.
    """

    def __init__(
        self,
        dataset: TorchDataset,
        batch_size: int,
        epoch_length: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        replacement: bool = False,
    ) -> None:
        length = len(dataset)  # type: ignore[arg-type]
        if length == 0:
            raise InputError("there is no case to load")
        if epoch_length is None:
            epoch_length = -(-length // max(batch_size, 1))
        for name, value, least in (("batch_size", batch_size, 1), ("epoch_length", epoch_length, 1), ("seed", seed, 0)):
            if value < least:
                raise InputError("a number is too small", where=name, expected=f"at least {least}", found=value)
        super().__init__(
            _SeededItems(dataset),
            num_workers=num_workers,
            batch_size=batch_size,
            sampler=IterationSampler(length, batch_size * epoch_length, seed, replacement),
            drop_last=True,
            collate_fn=_collate_unless_failed,
            persistent_workers=num_workers > 0,
        )

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that epoch; MONAI's trainers do this themselves."""
        self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # a generator, so that workers draw nothing before the trainer has told the epoch
        failure = None
        for batch in super().__iter__():
            if isinstance(batch, _Failure):
                failure = batch
                break
            yield batch
        if failure is not None:
            self._iterator = None  # ends persistent workers now, not whenever the traceback is collected
            raise InputError(failure.sentence.removesuffix("."))


def _collate_unless_failed(items: list[Any]) -> Any:
    failures = [item for item in items if isinstance(item, _Failure)]
    return failures[0] if failures else list_data_collate(items)


class _GuardedCases(TorchDataset):
    """Prepared cases, or the `_Failure` of those that cannot be prepared."""

    def __init__(self, data: Sequence[Case], transform: Callable[..., Any]) -> None:
        self.dataset = Dataset(data, transform)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        try:
            return _sendable(self.dataset[index])
        except Exception as error:  # whatever a damaged file provokes, the other cases go on
            return _Failure(index, _sentence(error, self.dataset.data[index]))


def _sentence(error: BaseException, case: Case) -> str:
    """What to tell the user; the text of an unforeseen exception may hold header values and is not repeated."""
    found = find_input_error(error)
    if found is not None:
        return str(found)
    while error.__cause__ is not None:
        error = error.__cause__
    todo = "look at the file with another program"
    return str(InputError("the scan cannot be prepared", where=case["image"], found=type(error).__name__, todo=todo))


def _as_it_is(item: Any) -> Any:
    return item


class FaultTolerantLoader:
    """Inference loader that leaves out the cases that cannot be prepared and goes on.

    Yields collated batches of ``batch_size`` good cases (the last one may be smaller) in the order of ``data``. How
    many there are is known only afterwards, so it has no length, which Ignite's engines accept.

    Args:
        data: the cases, of equal keys.
        transform: the preprocessing of a case.
        batch_size: cases a batch.
        num_workers: loading processes, 0 to load in this process.

    Attributes:
        total: number of cases, good or not.
        failures: ``(case, sentence)`` of those left out in the current or last iteration.
    """

    def __init__(
        self, data: Sequence[Case], transform: Callable[..., Any], batch_size: int = 1, num_workers: int = 0
    ) -> None:
        if batch_size < 1:
            raise InputError("a number is too small", where="batch_size", expected="at least 1", found=batch_size)
        self.data = list(data)
        self.batch_size = batch_size
        self.total = len(self.data)
        self.failures: list[tuple[Case, str]] = []
        # single cases: batches are made here, where it is known which of them are good
        self._items = TorchDataLoader(
            _GuardedCases(self.data, transform), batch_size=None, num_workers=num_workers, collate_fn=_as_it_is
        )

    def __iter__(self) -> Iterator[Any]:
        self.failures = []
        waiting: list[Any] = []
        for item in self._items:
            if isinstance(item, _Failure):
                case = self.data[item.index]
                self.failures.append((case, item.sentence))
                logger.warning("left out %s: %s", case["case_id"], item.sentence)
                continue
            waiting.append(item)
            if len(waiting) == self.batch_size:
                yield list_data_collate(waiting)
                waiting = []
        if waiting:
            yield list_data_collate(waiting)

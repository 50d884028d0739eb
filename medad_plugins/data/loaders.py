"""Loading cases: cached and endless for training, tolerant of bad files for inference."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.data.utils import list_data_collate
from monai.transforms import Compose, OneOf, RandomizableTrait, RandomOrder, SomeOf, Transform
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data.distributed import DistributedSampler

from medad_plugins.data.case_items import (
    Failure,
    GuardedCases,
    SeededItems,
    as_it_is,
    collate_unless_failed,
    refuse_failure,
)
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
        memory_limit_gib: limit of the cache in GiB, estimated from the first case; the rest is read on the fly. The
            processes of a machine share it: each draws from all cases and keeps a cache of its own.
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
    often. What an epoch draws depends on ``seed`` and the epoch's number only; ranks take places by turns, so that
    together they draw the very batches, random transforms included, that one process would. Being a
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
        per_epoch = self.draws * self.num_replicas
        # a place has one seed, whichever rank takes it
        seeds = _random_state(self.seed, 1, epoch, 0).randint(2**32, size=per_epoch, dtype=np.uint32)
        own = slice(self.rank, None, self.num_replicas)
        return zip(self._indices(epoch, per_epoch)[own].tolist(), seeds[own].tolist(), strict=True)

    def _indices(self, epoch: int, per_epoch: int) -> np.ndarray:
        if self.replacement:
            return _random_state(self.seed, 2, epoch).randint(self.length, size=per_epoch)
        first, last = epoch * per_epoch, (epoch + 1) * per_epoch
        shuffles = range(first // self.length, (last - 1) // self.length + 1)
        drawn = np.concatenate([_random_state(self.seed, 3, number).permutation(self.length) for number in shuffles])
        start = first - shuffles[0] * self.length
        return drawn[start : start + per_epoch]

    def __len__(self) -> int:
        return self.draws


def _rank_share(batch_size: int) -> int:
    """Cases that each rank takes of a batch."""
    ranks = idist.get_world_size()
    if batch_size % ranks:
        expected = f"a multiple of the {ranks} processes"
        todo = f"give --batch_size {-(-batch_size // ranks) * ranks}"
        raise InputError(
            "the batch cannot be shared", where="batch_size", expected=expected, found=batch_size, todo=todo
        )
    return batch_size // ranks


class IterationLoader(DataLoader):
    """Training loader of a fixed number of full batches an epoch, whatever the number of cases.

    The batches of an epoch, random transforms included, depend on ``seed`` and the epoch's number only: not on
    ``num_workers``, and not on whether the epochs before were run or resumed from.

    Args:
        dataset: MONAI dataset (its ``transform`` is seeded item by item), e.g. of `cached_dataset`.
        batch_size: cases a batch of all ranks together, each of which takes an equal share; may exceed the number of
            cases.
        epoch_length: batches an epoch; None takes as many as show every case once.
        seed: not negative.
        num_workers: loading processes, 0 to load in the training process.
        replacement: draw cases independently instead of in successive shuffles.

    Raises:
        InputError: the dataset is empty, a number is too small or the ranks cannot share a batch equally; while
            iterating, a scan that cannot be used.
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
        share = _rank_share(batch_size)
        super().__init__(
            SeededItems(dataset),
            num_workers=num_workers,
            batch_size=share,
            sampler=IterationSampler(length, share * epoch_length, seed, replacement),
            drop_last=True,
            collate_fn=collate_unless_failed,
            persistent_workers=num_workers > 0,
        )

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that epoch; MONAI's trainers do this themselves."""
        self.sampler.set_epoch(epoch)  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # a generator, so that workers draw nothing before the trainer has told the epoch
        failure = None
        for batch in super().__iter__():
            if isinstance(batch, Failure):
                failure = batch
                break
            yield batch
        if failure is not None:
            self._iterator = None  # ends persistent workers now, not whenever the traceback is collected
            refuse_failure(failure)


class FaultTolerantLoader:
    """Inference loader that leaves out the cases that cannot be prepared and goes on.

    Yields collated batches of ``batch_size`` good cases (the last one may be smaller) in the order of ``data``. How
    many there are is known only afterwards, so it has no length, which Ignite's engines accept. Of several ranks each
    takes its share of the cases, by turns, and none takes another's.

    Args:
        data: the cases of all ranks, of equal keys.
        transform: the preprocessing of a case.
        batch_size: cases a batch, on each rank.
        num_workers: loading processes, 0 to load in this process.

    Attributes:
        cases: the cases of all ranks.
        data: this rank's cases.
        total: number of cases of all ranks, good or not.
        failures: ``(case, sentence)`` of those left out in the current or last iteration, on this rank.
    """

    def __init__(
        self, data: Sequence[Case], transform: Callable[..., Any], batch_size: int = 1, num_workers: int = 0
    ) -> None:
        if batch_size < 1:
            raise InputError("a number is too small", where="batch_size", expected="at least 1", found=batch_size)
        self.cases = list(data)
        self.data = self.cases[idist.get_rank() :: idist.get_world_size()]
        self.batch_size = batch_size
        self.total = len(self.cases)
        self.failures: list[tuple[Case, str]] = []
        # single cases: batches are made here, where it is known which of them are good
        self._items = TorchDataLoader(
            GuardedCases(self.data, transform), batch_size=None, num_workers=num_workers, collate_fn=as_it_is
        )

    def __iter__(self) -> Iterator[Any]:
        self.failures = []
        waiting: list[Any] = []
        for item in self._items:
            if isinstance(item, Failure):
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

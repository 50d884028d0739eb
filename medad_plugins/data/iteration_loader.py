"""Training batches by iterations, the same for any number of workers, ranks and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ignite.distributed as idist
import numpy as np
from monai.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data.distributed import DistributedSampler

from medad_plugins.data.case_items import (
    Failure,
    SeededItems,
    collate_unless_failed,
    refuse_failure,
)
from medad_plugins.errors import InputError

__all__ = ["IterationLoader", "IterationSampler"]


def _random_state(*entropy: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.SeedSequence(entropy).generate_state(4))


class IterationSampler(DistributedSampler):
    """Which case comes at which place of an epoch, and a seed for its random transforms: ``(index, seed)``.

    Without replacement the cases come in one shuffle after the other, across epochs, so that each is seen equally
    often. What an epoch draws depends on ``seed`` and the epoch's number only; ranks take places by turns, so that
    together they draw the very batches, random transforms included, that one process would. Being a
    `DistributedSampler`, MONAI's trainers set its epoch, also after resuming; without them it counts by itself.

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


def _longest_epoch(max_iterations: int, longest: int = 50) -> int:
    """The largest divisor of ``max_iterations`` up to ``longest``: epochs of it are exactly the schedule."""
    return next(length for length in range(min(longest, max_iterations), 0, -1) if max_iterations % length == 0)


def _require_numbers(**numbers: tuple[int | None, int]) -> None:
    """Refuse a number that is smaller than the least beside it."""
    for name, (value, least) in numbers.items():
        if value is not None and value < least:
            raise InputError("a number is too small", where=name, expected=f"at least {least}", found=value)


class IterationLoader(DataLoader):
    """Training loader of a fixed number of full batches an epoch, whatever the number of cases.

    The batches of an epoch, random transforms included, depend on ``seed`` and the epoch's number only: not on
    ``num_workers``, and not on whether the epochs before were run or resumed from.

    Attributes:
        epochs: how many make up ``max_iterations``.

    Args:
        dataset: MONAI dataset (its ``transform`` is seeded item by item), e.g. of `cached_dataset`.
        batch_size: cases a batch of all ranks together, each of which takes an equal share; may exceed the number of
            cases.
        epoch_length: batches an epoch; None takes the largest divisor of ``max_iterations`` up to 50, for checkpoints
            are taken between epochs; without ``max_iterations``, as many as show every case once.
        seed: not negative.
        num_workers: loading processes, 0 to load in the training process.
        replacement: draw cases independently instead of in successive shuffles.
        max_iterations: of the whole training, in ``epochs`` of equal length; None leaves their number to the trainer.

    Raises:
        InputError: the dataset is empty, a number is too small or the ranks cannot share a batch equally; while
            iterating, a scan that cannot be used.

    Example:
        >>> from monai.data import Dataset
        >>> dataset = Dataset([{"image": number} for number in range(5)])
        >>> loader = IterationLoader(dataset, batch_size=2, max_iterations=100)
        >>> loader.epochs, len(loader), next(iter(loader))["image"].shape
        (2, 50, torch.Size([2]))
    """

    def __init__(
        self,
        dataset: TorchDataset,
        batch_size: int,
        epoch_length: int | None = None,
        seed: int = 0,
        num_workers: int = 0,
        replacement: bool = False,
        max_iterations: int | None = None,
    ) -> None:
        length = len(dataset)  # type: ignore[arg-type]
        if length == 0:
            raise InputError("there is no case to load")
        _require_numbers(batch_size=(batch_size, 1), max_iterations=(max_iterations, 1), seed=(seed, 0))
        if epoch_length is None:
            epoch_length = -(-length // batch_size) if max_iterations is None else _longest_epoch(max_iterations)
        _require_numbers(epoch_length=(epoch_length, 1))
        if max_iterations is not None and max_iterations % epoch_length:
            expected = f"a multiple of the epoch's {epoch_length}"
            raise InputError("the last epoch is cut", where="max_iterations", expected=expected, found=max_iterations)
        self.epochs = None if max_iterations is None else max_iterations // epoch_length
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
        # a generator, so that workers draw nothing before the trainer has set the epoch
        failure = None
        for batch in super().__iter__():
            if isinstance(batch, Failure):
                failure = batch
                break
            yield batch
        if failure is not None:
            self._iterator = None  # ends persistent workers now, not whenever the traceback is collected
            refuse_failure(failure)

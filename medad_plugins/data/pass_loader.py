"""Loading every case once, for methods that are fitted in passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ignite.distributed as idist
from monai.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from medad_plugins.data.cached_dataset import draws_tiles
from medad_plugins.data.case_items import SeededItems, collate_unless_failed, refuse_failure
from medad_plugins.errors import InputError

__all__ = ["PassLoader"]

_VISITS = 8  # tiles of a scan that stand for it


class _RankBatches(Sampler):
    """A rank's share ``[(index, seed), ...]`` of each batch of a pass in order; of the last one it may be empty."""

    def __init__(self, length: int, batch_size: int, seed: int, visits: int) -> None:
        self.length, self.batch_size, self.seed, self.visits = length, batch_size, seed, visits
        self.rank, self.ranks = idist.get_rank(), idist.get_world_size()

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for first in range(0, self.length, self.batch_size):
            last = min(first + self.batch_size, self.length)
            own = range(first + self.rank, last, self.ranks)
            yield [(index, self.seed + index + visit * self.length) for visit in range(self.visits) for index in own]


class PassLoader(DataLoader):
    """Fitting loader: every case once and in order; with several ranks, each takes its share of every batch, by turns.

    Of a dataset that draws tiles of scans (see `cached_dataset`) every case is visited eight times in its batch, which
    then holds as many more tiles. Images of different sizes are padded with zeros at their ends. Ranks make equally
    many batches; where there is no case left for a rank, its last batch is an empty dictionary.

    Args:
        dataset: MONAI dataset (its random transforms, if any, are seeded case by case).
        batch_size: cases a batch of all ranks together; the last one may be smaller.
        seed: of random transforms, not negative.
        num_workers: loading processes, 0 to load in the fitting process.

    Raises:
        InputError: the dataset is empty or the batch size too small; while iterating, a scan that cannot be used.

    Example:
        >>> from monai.data import Dataset
        >>> loader = PassLoader(Dataset([{"image": number} for number in range(5)]), batch_size=2)
        >>> [batch["image"].tolist() for batch in loader]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, dataset: TorchDataset, batch_size: int, seed: int = 0, num_workers: int = 0) -> None:
        length = len(dataset)  # type: ignore[arg-type]
        if length == 0:
            raise InputError("there is no case to load")
        if batch_size < 1:
            raise InputError("a number is too small", where="batch_size", expected="at least 1", found=batch_size)
        super().__init__(
            SeededItems(dataset),
            num_workers=num_workers,
            batch_sampler=_RankBatches(length, batch_size, seed, _VISITS if draws_tiles(dataset) else 1),
            collate_fn=collate_unless_failed,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for batch in super().__iter__():
            refuse_failure(batch)
            yield batch

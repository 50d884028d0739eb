"""Inference batches that leave out bad files and go on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ignite.distributed as idist
from monai.data.utils import list_data_collate
from torch.utils.data import DataLoader as TorchDataLoader

from medad_plugins.data.case_items import (
    Failure,
    GuardedCases,
    as_it_is,
    same_size,
)
from medad_plugins.data.datalists import Case
from medad_plugins.errors import InputError

__all__ = ["FaultTolerantLoader"]

logger = logging.getLogger(__name__)


class FaultTolerantLoader:
    """Inference loader that leaves out the cases that cannot be prepared and goes on.

    Yields collated batches of ``batch_size`` good cases (the last one may be smaller) in the order of ``data``; of
    fewer where sizes differ, or where scans are so large that ``batch_bytes`` hold no more. How many batches there are
    is known only afterwards, so it has no length, which Ignite's engines accept. Each of several ranks
    takes its share of the cases, by turns, and none takes another's.

    Args:
        data: the cases of all ranks, of equal keys.
        transform: the preprocessing of a case.
        batch_size: cases a batch, on each rank.
        num_workers: loading processes, 0 to load in this process.
        batch_bytes: of the images of a batch of several cases.

    Attributes:
        cases: the cases of all ranks.
        data: this rank's cases.
        total: number of cases of all ranks, good or not.
        failures: ``(case, sentence)`` of those left out in the current or last iteration, on this rank.
    """

    def __init__(
        self,
        data: Sequence[Case],
        transform: Callable[..., Any],
        batch_size: int = 1,
        num_workers: int = 0,
        batch_bytes: int = 2**28,
    ) -> None:
        if batch_size < 1:
            raise InputError("a number is too small", where="batch_size", expected="at least 1", found=batch_size)
        self.cases = list(data)
        self.data = self.cases[idist.get_rank() :: idist.get_world_size()]
        self.batch_size, self.batch_bytes = batch_size, batch_bytes
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
            if waiting and not self._fits(waiting, item):
                yield list_data_collate(waiting)
                waiting = []
            waiting.append(item)
            if len(waiting) == self.batch_size:
                yield list_data_collate(waiting)
                waiting = []
        if waiting:
            yield list_data_collate(waiting)

    def _fits(self, waiting: Sequence[Any], item: Any) -> bool:
        """Whether a prepared case can join those that wait to become a batch."""
        image = item["image"]
        return same_size([waiting[0], item]) and (len(waiting) + 1) * image.nbytes <= self.batch_bytes

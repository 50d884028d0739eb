"""Finds the scans that cannot be read before hours of training, not after them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

from medad_plugins.data import Case, FaultTolerantLoader
from medad_plugins.engines import gather_list
from medad_plugins.errors import InputError

__all__ = ["LookAtScans"]

logger = logging.getLogger(__name__)


class LookAtScans:
    """When a training starts, prepares every held-out and test scan once and says which cannot be used.

    They are left out where they are needed, as they would be without this, but the user knows in the first minute. With
    several ranks, each looks at its share. All random numbers are as without it.

    Args:
        held_out: cases to calibrate on.
        others: further cases, looked at as long as there is time.
        preprocessing: of a case.
        batch_size: cases a batch.
        num_workers: loading processes.
        seconds: time for ``others``, which are all read later on anyway.

    Raises:
        InputError: no held-out scan can be used, so that the training would be in vain.
    """

    def __init__(
        self,
        held_out: Sequence[Case],
        others: Sequence[Case],
        preprocessing: Callable[..., Any],
        batch_size: int = 8,
        num_workers: int = 0,
        seconds: float = 60.0,
    ) -> None:
        self.held_out, self.others, self.preprocessing = held_out, others, preprocessing
        self.batch_size, self.num_workers, self.seconds = batch_size, num_workers, seconds

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        # PyTorch's loaders draw from the generator too
        with torch.random.fork_rng(devices=[]):
            good, broken = self._look(self.held_out, None)
            if self.held_out and not good:
                reason = f", the first because: {broken[0].rstrip('.')}" if broken else ""
                raise InputError(
                    f"no held-out normal case can be read, so the training could not be calibrated{reason}",
                    todo="replace these scans, or hold out others",
                )
            more, unusable = self._look(self.others, self.seconds)
        looked = good + more + len(broken) + len(unusable)
        left = len(self.held_out) + len(self.others) - looked
        logger.info(
            "looked at %d held-out and test scans: %s%s.",
            looked,
            f"{len(broken) + len(unusable)} cannot be used" if broken or unusable else "all can be used",
            f"; {left} are read in the end" if left > 0 else "",
        )

    def _look(self, cases: Sequence[Case], seconds: float | None) -> tuple[int, list[str]]:
        """How many can be used, and why the others cannot."""
        loader = FaultTolerantLoader(cases, self.preprocessing, self.batch_size, self.num_workers)
        limit = None if seconds is None else time.monotonic() + seconds
        good = 0
        for batch in loader:
            good += len(batch["case_id"])
            if limit is not None and time.monotonic() > limit:
                break
        broken = gather_list([sentence for _, sentence in loader.failures])
        return sum(gather_list([good])), broken

"""Keeps the whole state of a training, and goes on from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.engines import NamedOptimizers, gather_list
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder, read_torch
from medad_plugins.protocols import Stateful

__all__ = ["ResumableCheckpoint"]

logger = logging.getLogger(__name__)

_ENTRIES = {"model", "optimizer", "epoch", "epoch_length", "random_state"}


class ResumableCheckpoint:
    """Saves the whole training state between epochs, and resumes from it on request.

    A resumed training draws the batches that it would have drawn and ends at the same weights. The file is removed when
    the training has ended. With several ranks, the first writes, and all read.

    Args:
        path: the checkpoint file, on a disk that all ranks see.
        network: what is trained.
        optimizer: its optimiser, or several as `medad_plugins.engines.NamedOptimizers`; None for methods without one.
        resume: go on from ``path`` where it exists.
        seconds: save no more often than this.
        others: what else has a state, by name, e.g. a `medad_plugins.handlers.MovingAverage`.

    Raises:
        InputError: on resuming from a file that does not belong to this training.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer | NamedOptimizers | None = None,
        resume: bool = False,
        seconds: float = 20.0,
        others: Mapping[str, Stateful] | None = None,
    ) -> None:
        self.path, self.network, self.optimizer = Path(path), network, optimizer
        self.resume, self.seconds, self.others = resume, seconds, dict(others or {})

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; resuming happens here, before the trainer counts its epochs."""
        if self.resume:
            self._load(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_when_due)
        engine.add_event_handler(Events.COMPLETED, self._remove)

    def _start(self, engine: Engine) -> None:
        output_folder(self.path.parent)
        self._saved_at = time.monotonic()

    def _save_when_due(self, engine: Engine) -> None:
        state: Any = engine.state
        is_due = time.monotonic() - self._saved_at >= self.seconds and state.epoch < state.max_epochs
        if not idist.broadcast(float(is_due)):  # the clock of the first rank
            return
        random_states = torch.stack(gather_list([torch.get_rng_state()]))
        self._saved_at = time.monotonic()
        if idist.get_rank() == 0:
            self._save(state, random_states)

    def _save(self, state: Any, random_states: torch.Tensor) -> None:
        with atomic_path(self.path) as temporary:
            torch.save(
                {
                    "model": self.network.state_dict(),
                    "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
                    "epoch": state.epoch,
                    "epoch_length": state.epoch_length,
                    "random_state": random_states,
                    "others": {name: other.state_dict() for name, other in self.others.items()},
                },
                temporary,
            )

    def _load(self, engine: Engine) -> None:
        state: Any = engine.state
        found = gather_list([self.path.is_file()])
        if any(found) and not all(found):
            todo = "put the bundle on a disk that all machines share"
            raise InputError("not every process sees the stopped training", where=self.path, todo=todo)
        if not found[0]:
            logger.warning("there is no stopped training at %s: starting from the beginning.", self.path)
            return
        saved = read_torch(self.path, "file of the stopped training", "leave out --resume")
        if not isinstance(saved, dict) or not saved.keys() >= _ENTRIES:
            raise InputError("the file is not from a stopped training", where=self.path, todo="leave out --resume")
        if saved["epoch_length"] != state.epoch_length or saved["epoch"] >= state.max_epochs:
            raise InputError(
                "the stopped training had another schedule",
                where=self.path,
                expected=f"epochs of {state.epoch_length} iterations, fewer than {state.max_epochs} of them done",
                found=f"epochs of {saved['epoch_length']} iterations, {saved['epoch']} done",
                todo="resume with the settings it was started with, or leave out --resume",
            )
        try:
            self.network.load_state_dict(saved["model"], strict=True)
            if self.optimizer is not None:
                self.optimizer.load_state_dict(saved["optimizer"])
            for name, other in self.others.items():
                other.load_state_dict(saved["others"][name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                "the stopped training was of another network",
                where=self.path,
                found=str(error).splitlines()[0],
                todo="resume with the settings it was started with, or leave out --resume",
            ) from error
        # started with another number of processes, a rank may take the noise of another
        random_states = torch.atleast_2d(saved["random_state"])
        # a copy: PyTorch takes the start of the memory and not of the row for the state
        torch.set_rng_state(random_states[idist.get_rank() % len(random_states)].clone())
        state.epoch, state.iteration = saved["epoch"], saved["epoch"] * saved["epoch_length"]
        logger.info("continuing after iteration %d.", state.iteration)

    def _remove(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)

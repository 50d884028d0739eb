"""Keeps the whole state of a training, and goes on from it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.engines import NamedOptimizers, gather_list
from medad_plugins.engines.training_keys import differing_keys
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, read_torch, write_torch
from medad_plugins.protocols import Stateful

__all__ = ["ResumableCheckpoint"]

logger = logging.getLogger(__name__)

_ENTRIES = {"model", "optimizer", "epoch", "epoch_length", "random_state"}


class ResumableCheckpoint:
    """Saves the whole training state between epochs, and resumes from it on request.

    A resumed training draws the batches that it would have drawn and ends at the same weights. The file is removed by
    `forget`, at the latest when all that happens at the end of the training has happened: where that fails, e.g.
    because the disk is full, the trained weights are in the file, and resuming does the end again. A file that cannot
    be written costs the training nothing. With several ranks, the first writes, and all read.

    Args:
        path: the checkpoint file, on a disk that all ranks see.
        network: what is trained.
        optimizer: its optimiser, or several as `medad_plugins.engines.NamedOptimizers`; None for methods without one.
        resume: go on from ``path`` where it exists.
        seconds: save no more often than this.
        others: what else has a state, by name, e.g. a `medad_plugins.handlers.MovingAverage`.
        keys: what the training depends on, by key; asked for when the file is read or written.
        data: what it is trained on: the cases in words, and their digest.

    Raises:
        InputError: on resuming from a file that does not belong to this training, has other keys or other data; while
            training, another training writes to the file.
    """

    def __init__(
        self,
        path: str | Path,
        network: nn.Module,
        optimizer: torch.optim.Optimizer | NamedOptimizers | None = None,
        resume: bool = False,
        seconds: float = 20.0,
        others: Mapping[str, Stateful] | None = None,
        keys: Callable[[], Mapping[str, Any]] = dict,
        data: Mapping[str, str] | None = None,
    ) -> None:
        self.path, self.network, self.optimizer = Path(path), network, optimizer
        self.resume, self.seconds, self.others = resume, seconds, dict(others or {})
        self.keys, self.data = keys, dict(data or {})
        self._is_trained = self._ends_only = False
        self._saved_at, self._seen = time.monotonic(), _signature(self.path)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; resuming happens here, before the trainer counts its epochs."""
        if self.resume:
            self._load(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_when_due)
        engine.add_event_handler(Events.COMPLETED, self._note_end)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._keep_what_is_trained)

    def _start(self, engine: Engine) -> None:
        output_folder(self.path.parent, "--ckpt_path")
        self._saved_at = time.monotonic()
        self._seen = _signature(self.path)
        self._is_trained = False
        # after all that has been registered by now
        if not engine.has_event_handler(self.forget, Events.COMPLETED):
            engine.add_event_handler(Events.COMPLETED, self.forget)
        if self._ends_only:
            state: Any = engine.state
            state.epoch, state.iteration = state.max_epochs, state.max_epochs * state.epoch_length
            engine.terminate()

    def _note_end(self, engine: Engine) -> None:
        self._is_trained = self.optimizer is not None

    def _keep_what_is_trained(self, engine: Engine, error: BaseException) -> None:
        if self._is_trained and idist.get_rank() == 0:
            self._save(engine.state, torch.stack([torch.get_rng_state()]), ended=True)
            logger.warning("the trained weights are in %s: --resume true does the end again.", self.path)
        raise error

    def _save_when_due(self, engine: Engine) -> None:
        state: Any = engine.state
        is_due = time.monotonic() - self._saved_at >= self.seconds and state.epoch < state.max_epochs
        if not idist.broadcast(float(is_due)):  # the clock of the first rank
            return
        random_states = torch.stack(gather_list([torch.get_rng_state()]))
        self._saved_at = time.monotonic()
        if idist.get_rank() == 0:
            self._save(state, random_states)

    def _save(self, state: Any, random_states: torch.Tensor, ended: bool = False) -> None:
        if not ended and _signature(self.path) != self._seen:
            todo = "give one of them another --ckpt_path"
            raise InputError("another training writes to the same file", where=self.path, todo=todo)
        content = {
            "model": self.network.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "epoch": state.epoch,
            "epoch_length": state.epoch_length,
            "random_state": random_states,
            "others": {name: other.state_dict() for name, other in self.others.items()},
            "keys": dict(self.keys()),
            "data": self.data,
            "ended": ended,
        }
        try:
            write_torch(self.path, content)
        except InputError as error:
            logger.warning("%s Until then this training cannot be resumed.", error)
        self._seen = _signature(self.path)

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
        self._require_same(saved)
        self._ends_only = bool(saved.get("ended")) and saved["epoch"] == state.max_epochs
        too_late = saved["epoch"] >= state.max_epochs and not self._ends_only
        if saved["epoch_length"] != state.epoch_length or too_late:
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
        # an engine that has done all its epochs would begin anew
        epoch = saved["epoch"] - self._ends_only
        state.epoch, state.iteration = epoch, epoch * saved["epoch_length"]
        logger.info("continuing after iteration %d.", saved["epoch"] * saved["epoch_length"])

    def _require_same(self, saved: Mapping[str, Any]) -> None:
        """A training goes on with what it was started with, or not at all."""
        todo = "resume with what it was started with, or leave out --resume to start anew"
        data = saved.get("data", {})
        if data and self.data and data["digest"] != self.data["digest"]:
            was, now = data["cases"], self.data["cases"]
            now = f"other cases, {now}" if was == now else now
            raise InputError(
                "the stopped training was on other data", where=self.path, expected=was, found=now, todo=todo
            )
        if differing := differing_keys(saved.get("keys", {}), self.keys()):
            what = "the stopped training had other settings"
            raise InputError(what, where=self.path, found="; ".join(differing), todo=todo)

    def forget(self) -> None:
        """Remove the file, once what it was kept for is safe."""
        self._is_trained = False
        if idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)


def _signature(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns

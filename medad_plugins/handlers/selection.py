"""Which weights of a training are kept, chosen without any abnormal scan."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import Tensor

from medad_plugins.engines import gather_list, score_cases
from medad_plugins.errors import InputError
from medad_plugins.files import atomic_path, output_folder, read_torch
from medad_plugins.networks import AnomalyNetwork

__all__ = ["KeepBest"]

logger = logging.getLogger(__name__)

_ENTRIES = {"model", "mean", "iteration"}


class KeepBest:
    """At the end, gives the network the weights back with which held-out normal scans looked most normal.

    After every epoch of the engine, the mean of their anomaly maps is taken. The cases must be neither trained on nor
    those that the decisions are calibrated on, whose scores would come out too low. Of several ranks each scores its
    share, and all decide alike. It stands before `ResumableCheckpoint` and before what takes over the network at the
    end: handlers run in their order.

    Args:
        path: file that the best weights so far are kept in until the end, for a training that is stopped and resumed.
        network: what is trained.
        loader: batches of held-out normal cases, each on one rank, e.g. of `medad_plugins.data.FaultTolerantLoader`.
        inferer: how the network is called.
        resume: go on from ``path`` where it exists.

    Raises:
        InputError: if the file is of something else, or no held-out case can be scored.
    """

    def __init__(
        self,
        path: str | Path,
        network: AnomalyNetwork,
        loader: Iterable[dict[str, Any]],
        inferer: Inferer | None = None,
        resume: bool = False,
    ) -> None:
        self.path, self.network, self.loader, self.inferer, self.resume = Path(path), network, loader, inferer, resume
        self._forget()

    def _forget(self) -> None:
        self.mean, self.iteration = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge)
        engine.add_event_handler(Events.COMPLETED, self._give_back)

    def _start(self, engine: Engine) -> None:
        output_folder(self.path.parent)
        self._forget()
        if not (self.resume and self.path.is_file()):
            return
        saved = read_torch(self.path, "file of the best weights so far", "leave out --resume")
        if not isinstance(saved, dict) or not saved.keys() >= _ENTRIES:
            raise InputError("the file holds no best weights", where=self.path, todo="leave out --resume")
        self.mean, self.iteration, self.weights = saved["mean"], saved["iteration"], saved["model"]

    def _judge(self, engine: Engine) -> None:
        own = [float(case.anomaly_map.mean()) for case in score_cases(self.network, self.loader, self.inferer)]
        means = gather_list(own)
        if not means:
            raise InputError("no held-out normal case could be read, so there is nothing to choose the weights by")
        mean = math.fsum(means) / len(means)
        if not mean < self.mean:  # nor is it where the training diverged
            return
        self.mean, self.iteration = mean, engine.state.iteration
        self.weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        if idist.get_rank() == 0:
            with atomic_path(self.path) as temporary:
                torch.save({"model": self.weights, "mean": mean, "iteration": self.iteration}, temporary)

    def _give_back(self, engine: Engine) -> None:
        if self.weights:
            self.network.load_state_dict(self.weights, strict=True)
            logger.info(
                "kept the weights of iteration %d: held-out normal scans look most normal to them.", self.iteration
            )
        if idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)
        self.weights = {}

"""Which weights of a training are kept, chosen without any abnormal scan."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from medad_plugins.data import Case
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, read_torch, write_torch
from medad_plugins.handlers.selection_criteria import Criterion, selection_criterion
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.synthesis import Recipe

__all__ = ["KeepBest"]

logger = logging.getLogger(__name__)

_ENTRIES = {"model", "value", "iteration"}


class KeepBest:
    """Restores the best epoch's weights when training ends.

    The cases must be neither trained on nor those that the decisions are calibrated on, whose scores would come out
    too low. With several ranks, each evaluates its share and all choose the same weights. Place it before
    `ResumableCheckpoint` and before handlers that use the network at the end: handlers run in order.
    The file is removed by `forget`, at the latest when all that happens at the end has happened.

    Args:
        path: file that keeps the best weights so far until the end, for a training that is stopped and resumed.
        network: what is trained.
        by: ``"last"`` keeps the last weights and does nothing; ``"normal"`` is `NormalMaps`, ``"synthetic"`` is
            `SyntheticAnomalies` with the published recipes that are not among ``training_recipes``; or a criterion
            of your own.
        cases: held-out normal cases, e.g. ``selection`` of `medad_plugins.data.Cohort`.
        preprocessing: of a case.
        inferer: how the network is called.
        training_recipes: recipes of synthetic anomalies that the network is trained with.
        resume: go on from ``path`` where it exists.

    Raises:
        InputError: if ``by`` is unknown, the file is of something else, or no held-out case can be judged.
    """

    def __init__(
        self,
        path: str | Path,
        network: AnomalyNetwork,
        by: str | Criterion = "last",
        cases: Sequence[Case] = (),
        preprocessing: Callable[..., Any] = dict,
        inferer: Inferer | None = None,
        training_recipes: Sequence[Recipe] = (),
        resume: bool = False,
    ) -> None:
        self.path, self.network, self.resume = Path(path), network, resume
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.criterion = selection_criterion(by, cases, preprocessing, training_recipes) if isinstance(by, str) else by
        self._forget()

    def _forget(self) -> None:
        self.value, self.iteration = -math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.criterion is None:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._judge, self.criterion)
        engine.add_event_handler(Events.COMPLETED, self._give_back, self.criterion)

    def _start(self, engine: Engine) -> None:
        output_folder(self.path.parent, "--ckpt_path")
        self._forget()
        # after all that has been registered by now
        if not engine.has_event_handler(self.forget, Events.COMPLETED):
            engine.add_event_handler(Events.COMPLETED, self.forget)
        if self.criterion is not None:
            self.criterion.prepare()
        # without a state to go on from, the file is of a training that is not continued
        if not (self.resume and engine.state.epoch and self.path.is_file()):
            return
        saved = read_torch(self.path, "file of the best weights so far", "leave out --resume")
        if not isinstance(saved, dict) or not saved.keys() >= _ENTRIES:
            raise InputError("the file holds no best weights", where=self.path, todo="leave out --resume")
        self.value, self.iteration, self.weights = saved["value"], saved["iteration"], saved["model"]

    def _judge(self, engine: Engine, criterion: Criterion) -> None:
        value = criterion(self.network, self.inferer)
        logger.debug("iteration %d: %.4f", engine.state.iteration, value)
        if not value > self.value:  # nor is it where the training diverged
            return
        self.value, self.iteration = value, engine.state.iteration
        self.weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        if idist.get_rank() == 0:
            self._keep()

    def _keep(self) -> None:
        try:
            write_torch(self.path, {"model": self.weights, "value": self.value, "iteration": self.iteration})
        except InputError as error:
            logger.warning("%s Until then the best weights are kept in memory only.", error)

    def _give_back(self, engine: Engine, criterion: Criterion) -> None:
        if self.weights:
            self.network.load_state_dict(self.weights, strict=True)
            logger.info("kept the weights of iteration %d, %s (%.3g).", self.iteration, criterion.wish, self.value)
        self.weights = {}

    def forget(self) -> None:
        """Remove the file, once the model that it was kept for is saved."""
        if self.criterion is not None and idist.get_rank() == 0:
            self.path.unlink(missing_ok=True)

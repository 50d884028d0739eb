"""Calibrates a trained network on held-out normal cases, and saves it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.inferers import Inferer

from medad_plugins.engines import NormalScores, save_model, score_normals
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, require_place
from medad_plugins.networks import AnomalyNetwork

__all__ = ["CalibrateAndSave"]

logger = logging.getLogger(__name__)


class CalibrateAndSave:
    """At the end of training, scores the held-out normal cases, keeps their scores in the network, and saves it.

    A handler and not a step of the configuration, so that hosts that only run the trainer get a calibrated model too.
    With several ranks, each scores its share, all gather all scores, and the first saves.

    Args:
        path: the model file.
        network: the trained network, equal on all ranks.
        loader: batches of held-out normal cases, each on one rank, e.g. of `medad_plugins.data.FaultTolerantLoader`.
        bundle: the bundle's name.
        settings: what to rebuild the network from, see `medad_plugins.engines.save_model`.
        inferer: how the network is called.
        alpha: rate for which to say whether the held-out cases suffice.
        group: column of the list whose values the references are kept by, e.g. ``scanner``; empty keeps them as one.
        crossed: gives the scores to calibrate on instead of the loader's, e.g. of a cross calibration.

    Raises:
        InputError: if no held-out case can be scored, or the scores are not finite.
    """

    def __init__(
        self,
        path: str | Path,
        network: AnomalyNetwork,
        loader: Iterable[dict[str, Any]],
        bundle: str,
        settings: Mapping[str, Any],
        inferer: Inferer | None = None,
        alpha: float = 0.05,
        group: str = "",
        crossed: Callable[[], NormalScores] | None = None,
    ) -> None:
        self.path, self.network, self.loader, self.inferer = Path(path), network, loader, inferer
        self.bundle, self.settings, self.alpha = bundle, settings, alpha
        self.group, self.crossed = group, crossed

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.COMPLETED, self)

    def _start(self, engine: Engine) -> None:
        require_place(self.path)

    def __call__(self, engine: Engine) -> None:
        self.calibrate()
        self.save()

    def calibrate(self) -> None:
        """Score the held-out cases, or take the crossed scores, and keep them in the network."""
        if self.crossed is None:
            scored = score_normals(self.network, self.loader, self.inferer, self.group)
        else:
            scored = self.crossed()
        try:
            self.network.calibration.fit(*scored.columns(), self.group)
        except ValueError as error:
            raise InputError(
                "the network cannot be calibrated, so it was not saved",
                found=str(error).rstrip("."),
                todo="lower the learning rate or use --precision float32",
            ) from error
        logger.info("calibrated on %d held-out normal cases.", len(scored.scores))

    def save(self) -> None:
        """Write the model file of the calibrated network; the first rank does."""
        calibration = self.network.calibration
        if calibration.smallest_alpha > self.alpha:
            needed = calibration.cases_needed(self.alpha)
            logger.warning("to flag anything at alpha %g, at least %d are needed.", self.alpha, needed)
        if idist.get_rank() == 0:
            output_folder(self.path.parent, "--ckpt_path")
            save_model(self.path, self.network, self.bundle, self.settings)
            logger.info("saved %s", self.path)

"""Calibrates a trained network on held-out normal cases, and saves it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from torch import Tensor

from medad_plugins.engines import gather_list, save_model, score_cases
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, require_place
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms import input_figures

__all__ = ["CalibrateAndSave"]

logger = logging.getLogger(__name__)

_ODD_SHARE = 0.1


def _spread(values: Tensor, most: int = 20_000) -> Tensor:
    """At most so many of the values, from everywhere: quantiles of many maps need no more, and fit into memory."""
    if values.numel() <= most:
        return values
    # drawn, for a fixed step may follow the map's rows and see only their first pixels
    generator = torch.Generator().manual_seed(0)
    return values[torch.randint(values.numel(), (most,), generator=generator).to(values.device)]


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
    ) -> None:
        self.path, self.network, self.loader, self.inferer = Path(path), network, loader, inferer
        self.bundle, self.settings, self.alpha = bundle, settings, alpha

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
        """Score the held-out cases and keep their scores in the network."""
        scores, pixels, inputs, odd = [], [], [], list[str]()
        for case in score_cases(self.network, self.loader, self.inferer):
            if not (math.isfinite(case.score) and bool(torch.isfinite(case.anomaly_map).all())):
                logger.warning("left out %s: its anomaly map is not finite.", case.case_id)
                odd.append(case.case_id)
                continue
            scores.append(case.score)
            inputs.append(input_figures(case.image))
            pixels.append(_spread(case.anomaly_map.flatten()).cpu().numpy())
        scores, pixels, inputs, odd = (gather_list(own) for own in (scores, pixels, inputs, odd))
        # one scan may be odd; where several are, it is the network
        if len(odd) > max(1, _ODD_SHARE * (len(scores) + len(odd))) or (odd and not scores):
            raise InputError(
                "the network cannot be calibrated, so it was not saved",
                found=f"{len(odd)} of {len(scores) + len(odd)} anomaly maps that are not finite, the first of {odd[0]}",
                todo="lower the learning rate or use --precision float32",
            )
        if not scores:
            raise InputError("no held-out normal case could be read, so there is nothing to calibrate on")
        try:
            marked = torch.from_numpy(np.concatenate(pixels))
            self.network.calibration.fit(torch.tensor(scores), marked, torch.tensor(inputs))
        except ValueError as error:
            raise InputError(
                "the network cannot be calibrated, so it was not saved",
                found=str(error).rstrip("."),
                todo="lower the learning rate or use --precision float32",
            ) from error
        logger.info("calibrated on %d held-out normal cases.", len(scores))

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

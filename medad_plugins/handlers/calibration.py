"""What happens once a network is fitted: it is calibrated, kept, and tried on the test set."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines.evaluator import SupervisedEvaluator
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor

from medad_plugins.data import Case, FaultTolerantLoader
from medad_plugins.engines import gather_list, save_model, score_cases
from medad_plugins.errors import InputError
from medad_plugins.files import output_folder
from medad_plugins.handlers.evaluation import EvaluationReport
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms.postprocessing import AnomalyPostprocessing

__all__ = ["CalibrateAndSave", "TestAtEnd"]

logger = logging.getLogger(__name__)


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
    Of several ranks each scores its share, all take over the scores of all, and the first saves.

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
        engine.add_event_handler(Events.STARTED, lambda _: output_folder(self.path.parent))
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.calibrate()
        self.save()

    def calibrate(self) -> None:
        """Score the held-out cases and keep their scores in the network."""
        scores, pixels = [], []
        for case in score_cases(self.network, self.loader, self.inferer):
            scores.append(case.score)
            pixels.append(_spread(case.anomaly_map.flatten()).cpu().numpy())
        scores, pixels = gather_list(scores), gather_list(pixels)
        if not scores:
            raise InputError("no held-out normal case could be read, so there is nothing to calibrate on")
        try:
            self.network.calibration.fit(torch.tensor(scores), torch.from_numpy(np.concatenate(pixels)))
        except ValueError as error:
            raise InputError(
                "the network cannot be calibrated, so it was not saved",
                found=str(error).rstrip("."),
                todo="lower the learning rate or use --precision float32",
            ) from error
        logger.info("calibrated on %d held-out normal cases.", len(scores))

    def save(self) -> None:
        """Write the model file of the calibrated network; the first rank does."""
        if self.network.calibration.smallest_alpha > self.alpha:
            needed = math.ceil(1 / self.alpha - 1e-9) - 1
            logger.warning("to flag anything at alpha %g, at least %d are needed.", self.alpha, needed)
        if idist.get_rank() == 0:
            output_folder(self.path.parent)
            save_model(self.path, self.network, self.bundle, self.settings)
            logger.info("saved %s", self.path)


class TestAtEnd:
    """Once the model is saved, tries it on the test set: one line of figures, charts and example pictures.

    The figures are for the reader; nothing is chosen by them.

    Args:
        cases: the labelled test cases; none is fine.
        preprocessing: as in training.
        network: the trained network.
        output_dir: folder for the report.
        device: where the network is.
        inferer: how the network is called.
        batch_size: cases a batch.
        num_workers: loading processes.
        alpha: share of normal scans that may be flagged.
        name: of the data, for the report.
        validation: labelled cases to choose an F1 threshold on, see `EvaluationReport`.
        pictures: draw overlays where there are no more cases than this.
    """

    __test__ = False  # pytest would take the name for a test

    def __init__(
        self,
        cases: Sequence[Case],
        preprocessing: Compose,
        network: AnomalyNetwork,
        output_dir: str | Path,
        device: str | torch.device = "cpu",
        inferer: Inferer | Callable[..., Any] | None = None,
        batch_size: int = 8,
        num_workers: int = 0,
        alpha: float = 0.05,
        name: str = "test",
        validation: Sequence[Case] = (),
        pictures: int = 300,
    ) -> None:
        self.cases = [case for case in cases if "label" in case]
        self.preprocessing, self.network, self.output_dir = preprocessing, network, Path(output_dir)
        self.device, self.inferer, self.alpha = device, inferer, alpha
        self.batch_size, self.num_workers, self.pictures = batch_size, num_workers, pictures
        self.name, self.validation = name, validation

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after `CalibrateAndSave`."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if not self.cases:
            logger.info("there is no labelled test case, so nothing is reported.")
            return
        save = ("overlay",) if len(self.cases) <= self.pictures else ()
        postprocessing = AnomalyPostprocessing(self.preprocessing, self.network, self.alpha, self.output_dir, save)
        evaluator = SupervisedEvaluator(
            device=torch.device(self.device),
            val_data_loader=FaultTolerantLoader(self.cases, self.preprocessing, self.batch_size, self.num_workers),
            network=self.network,
            inferer=self.inferer,  # type: ignore[arg-type]
            postprocessing=postprocessing,
            val_handlers=[EvaluationReport(self.output_dir, postprocessing, self.name, self.validation)],
        )
        evaluator.run()
        logger.info("pictures and figures in %s", self.output_dir)

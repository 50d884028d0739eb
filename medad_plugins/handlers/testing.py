"""Tries a trained model on the test set."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.inferers import Inferer
from monai.transforms import Compose

from medad_plugins.data import Case, FaultTolerantLoader
from medad_plugins.engines import CaseEvaluator
from medad_plugins.handlers.evaluation import EvaluationReport
from medad_plugins.networks import AnomalyNetwork
from medad_plugins.transforms.postprocessing import AnomalyPostprocessing

__all__ = ["TestAtEnd"]

logger = logging.getLogger(__name__)


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
        evaluator = CaseEvaluator(
            device=torch.device(self.device),
            val_data_loader=FaultTolerantLoader(self.cases, self.preprocessing, self.batch_size, self.num_workers),
            network=self.network,
            inferer=self.inferer,  # type: ignore[arg-type]
            postprocessing=postprocessing,
            val_handlers=[EvaluationReport(self.output_dir, postprocessing, self.name, self.validation)],
        )
        evaluator.run()
        logger.info("pictures and figures in %s", self.output_dir)

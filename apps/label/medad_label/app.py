"""The app: bundle folders as models, from this machine alone."""

from __future__ import annotations

import logging
from pathlib import Path

from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

import medad_plugins
from medad_label.bundle_folders import find_bundles
from medad_label.inference_task import AnomalyInferTask
from medad_label.train_task import NormalTrainTask

__all__ = ["MedADApp"]

logger = logging.getLogger(__name__)


class MedADApp(MONAILabelApp):
    """Serves MedAD's bundles: a mask with score, p-value and decision for a scan, and training on normal scans.

    Args:
        app_dir: the app's folder; bundle folders may lie in its ``model``.
        studies: folder of scans or address of a DICOMweb server.
        conf: ``models``: bundle folders (paths or names in ``model``), separated by commas, by default all in
            ``model``; ``skip_trainers``: ``true`` leaves training out.

    Raises:
        InputError: a bundle is not there, or its model cannot be used.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundles = find_bundles(conf.get("models", ""), Path(app_dir) / "model")
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="MedAD",
            description="Anomalies in medical images: mask, score, p-value and decision",
            version=medad_plugins.__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        tasks = {name: AnomalyInferTask(str(folder), self.conf) for name, folder in self.bundles.items()}
        for name, task in tasks.items():
            if not task.is_valid():
                logger.warning("%s has no models/model.pt yet: train it, then start the server again.", name)
        return {name: task for name, task in tasks.items() if task.is_valid()}

    def init_trainers(self) -> dict[str, TrainTask]:
        if str(self.conf.get("skip_trainers", "")).lower() == "true":
            return {}
        return {name: NormalTrainTask(str(folder), self.conf) for name, folder in self.bundles.items()}

    def init_strategies(self) -> dict[str, Strategy]:
        return {"random": Random(), "first": First()}

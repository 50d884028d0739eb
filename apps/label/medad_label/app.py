"""The app: bundle folders as models, from this machine alone."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random

import medad_plugins
from medad_label.batch_inference import EveryScanInferTask
from medad_label.bundle_folders import find_bundles
from medad_label.inference_task import AnomalyInferTask
from medad_label.studies import ReadableFirst, say_what_is_not_offered
from medad_label.train_task import NormalTrainTask
from medad_plugins.data.scan_files import NIFTI_SUFFIXES, PICTURE_SUFFIXES

__all__ = ["MedADApp"]

logger = logging.getLogger(__name__)

_READ_TOO = [f"*{form(suffix)}" for suffix in (*NIFTI_SUFFIXES, *PICTURE_SUFFIXES) for form in (str.lower, str.upper)]


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
        return {"random": ReadableFirst(Random()), "first": ReadableFirst(First())}

    def init_batch_infer(self) -> EveryScanInferTask:
        return EveryScanInferTask()

    def init_datastore(self) -> Datastore:
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        patterns = list(dict.fromkeys([*settings.MONAI_LABEL_DATASTORE_FILE_EXT, *_READ_TOO]))
        say_what_is_not_offered(self.studies, patterns)
        return LocalDatastore(
            self.studies,
            extensions=patterns,
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> Any:
        """MONAI Label's inference; a name that it does not know is refused with status 404.

        MONAI Label makes an empty path of an unknown name, which is the server's own folder.
        """
        self._require_model(request.get("model"), self._infers)
        self._require_image(request.get("image"), datastore or self.datastore())
        return super().infer(request, datastore)

    def train(self, request: dict[str, Any]) -> Any:
        self._require_model(request.get("model"), self._trainers)
        return super().train(request)

    def on_init_complete(self) -> None:
        _answer_user_errors()
        super().on_init_complete()

    @staticmethod
    def _require_model(model: Any, tasks: dict[str, Any]) -> None:
        if model not in tasks:
            known = ", ".join(tasks) or "none: no bundle here has a trained model"
            raise HTTPException(status_code=404, detail=f"there is no model of that name: {model} (there are {known}).")

    @staticmethod
    def _require_image(image: Any, datastore: Datastore) -> None:
        if not isinstance(image, str):
            return
        # a request's file and a session lie somewhere of their own; all else is a name in the folder of studies
        if image and os.path.isabs(image) and os.path.exists(image):
            return
        if not image or not datastore.get_image_uri(image):
            detail = f"there is no image or session of that name: {image or 'no name, or an unknown session'}."
            raise HTTPException(status_code=404, detail=detail)
        if os.path.exists(image):
            detail = f"{image} is also a file in the folder in which the server was started; start it in an empty one."
            raise HTTPException(status_code=409, detail=detail)


def _answer_user_errors() -> None:
    """What a request got wrong is answered in a sentence, where MONAI Label has "Internal Server Error"."""
    from monailabel.app import app

    server: FastAPI = app

    async def no_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
        return JSONResponse({"detail": f"params is not JSON: {error}."}, status_code=400)

    async def refused(request: Request, error: MONAILabelException) -> JSONResponse:
        status = 404 if "no model" in error.msg or "not found" in error.msg else 400
        return JSONResponse({"detail": error.msg}, status_code=status)

    server.add_exception_handler(json.JSONDecodeError, no_json)
    server.add_exception_handler(MONAILabelException, refused)
    server.middleware_stack = None  # made anew at the next request, with these

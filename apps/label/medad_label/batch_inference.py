"""Inference on many scans, of which any may be broken."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.batch_infer import BatchInferTask

from medad_plugins.errors import find_input_error

__all__ = ["EveryScanInferTask"]

logger = logging.getLogger(__name__)


class EveryScanInferTask(BatchInferTask):
    """MONAI Label's batch inference, but a scan that fails ends nothing: its result is ``{"error": sentence}``.

    MONAI Label itself guards scans only where several threads work on them, and takes a GPU for granted.
    """

    def __call__(self, request: dict[str, Any], datastore: Datastore, infer: Callable) -> dict[str, Any]:
        failed: dict[str, str] = {}

        def guarded(one: dict[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                result: dict[str, Any] = infer(one, store)
                return result
            except Exception as error:
                image = str(one.get("image"))
                failed[image] = _sentence(error)
                logger.warning("%s: %s", image, failed[image])
                return {"error": failed[image]}

        results: dict[str, Any] = super().__call__(
            {"multi_gpu": torch.cuda.is_available(), **request}, datastore, guarded
        )
        if failed:
            logger.warning("%d of %d scans failed: %s", len(failed), len(results), ", ".join(sorted(failed)))
        return results


def _sentence(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return str(error.detail)
    found = find_input_error(error)
    return str(found) if found is not None else f"{type(error).__name__}: see the server's log"

"""Keeping the network of a stage that is not the bundle's model yet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.engines import save_model
from medad_plugins.files import require_place

__all__ = ["SaveAtEnd"]

logger = logging.getLogger(__name__)


class SaveAtEnd:
    """At the end of a training, writes the network as a model file; with several ranks, the first does.

    For a stage's network, which has no map to calibrate; the bundle's own is kept by `CalibrateAndSave`.

    Args:
        path: the model file.
        network: what was trained.
        bundle: name of what the network is, checked on loading.
        settings: what to rebuild it from, see `medad_plugins.engines.save_model`.
    """

    def __init__(self, path: str | Path, network: nn.Module, bundle: str, settings: Mapping[str, Any]) -> None:
        self.path, self.network, self.bundle, self.settings = Path(path), network, bundle, settings

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, lambda _: require_place(self.path))
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            save_model(self.path, self.network, self.bundle, self.settings)
            logger.info("saved %s", self.path)

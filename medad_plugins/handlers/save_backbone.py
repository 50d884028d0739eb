"""Keeping a trained encoder as a file of weights that other methods start from."""

from __future__ import annotations

import logging
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import nn

from medad_plugins.files import require_place, write_torch

__all__ = ["SaveBackbone"]

logger = logging.getLogger(__name__)


class SaveBackbone:
    """At the end of a training, writes an encoder's tensors by their names: a file for ``--weights`` of every bundle.

    The encoder is the one that the model has: where weights were chosen among several, it is written after that. With
    several ranks, the first writes.

    Args:
        path: the file.
        encoder: e.g. `medad_plugins.networks.ResNetTaps`, whose names are those of torchvision.
        key: the key that says where the file is, for errors.
    """

    def __init__(self, path: str | Path, encoder: nn.Module, key: str = "--encoder_path") -> None:
        self.path, self.encoder, self.key = Path(path), encoder, key

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        require_place(self.path, self.key)
        if not engine.has_event_handler(self, Events.COMPLETED):
            # added now, it comes after all that was there before: what chooses weights among them
            engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            tensors = {name: tensor.detach().cpu() for name, tensor in self.encoder.state_dict().items()}
            write_torch(self.path, tensors, self.key)
            logger.info("saved %s: give it to other bundles as --weights.", self.path)

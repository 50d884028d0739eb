"""A training to be watched in TensorBoard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from PIL import Image

from medad_plugins.errors import InputError
from medad_plugins.files import output_folder, unwritable
from medad_plugins.handlers.loss_terms import iteration_terms

__all__ = ["TensorBoardLog"]

logger = logging.getLogger(__name__)


class TensorBoardLog:
    """Writes the loss, its terms and the pictures of a training for ``tensorboard --logdir <output_dir>/tensorboard``.

    A resumed training goes on in the same curves. The first rank writes.

    Args:
        output_dir: of the training; `TrainingPictures` puts its pictures there.
        every: iterations between two points of a curve.

    Raises:
        InputError: at the start, if TensorBoard is not installed.
    """

    def __init__(self, output_dir: str | Path, every: int = 5) -> None:
        self.output_dir, self.every = Path(output_dir), every
        self._shown: set[Path] = set()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after `TrainingPictures`."""
        if idist.get_rank() == 0:
            engine.add_event_handler(Events.STARTED, self._open)
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every), self._log)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._show)
            engine.add_event_handler(Events.COMPLETED, self._close)

    def _open(self, engine: Engine) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            todo = "pip install tensorboard, or leave out --tensorboard"
            raise InputError("TensorBoard is not installed", todo=todo) from error
        folder = output_folder(self.output_dir / "tensorboard")
        self._writer: Any = SummaryWriter(str(folder), purge_step=engine.state.iteration + 1)
        self._shown = set(self._pictures())

    def _pictures(self) -> list[Path]:
        return sorted((self.output_dir / "training").glob("*.png"))

    def _log(self, engine: Engine) -> None:
        self._guarded(self._add_values, engine)

    def _guarded(self, add: Callable[[Engine], None], engine: Engine) -> None:
        """A full disk costs the curves and not the training."""
        if self._writer is None:
            return
        try:
            add(engine)
        except OSError as error:
            logger.warning("%s The training goes on without its curves.", unwritable(self.output_dir, error))
            self._writer = None

    def _add_values(self, engine: Engine) -> None:
        for name, value in iteration_terms(engine.state.output).items():
            # as folders of curves, one for each phase
            self._writer.add_scalar(name.replace(".", "/"), float(value), engine.state.iteration)

    def _show(self, engine: Engine) -> None:
        self._guarded(self._add_pictures, engine)

    def _add_pictures(self, engine: Engine) -> None:
        for path in self._pictures():
            if path not in self._shown:
                self._shown.add(path)
                with Image.open(path) as picture:
                    pixels = np.asarray(picture.convert("RGB"))
                self._writer.add_image("reconstructions", pixels, engine.state.iteration, dataformats="HWC")

    def _close(self, engine: Engine) -> None:
        self._guarded(lambda _: self._writer.close(), engine)

"""What happens around every training, in the one order that is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine

from medad_plugins.engines import NamedOptimizers, TrainingSetup
from medad_plugins.handlers.calibrate_and_save import CalibrateAndSave
from medad_plugins.handlers.progress import TrainingProgress
from medad_plugins.handlers.resumable_checkpoint import ResumableCheckpoint, Stateful
from medad_plugins.handlers.selection import KeepBest
from medad_plugins.handlers.tensorboard import TensorBoardLog
from medad_plugins.handlers.testing import TestAtEnd
from medad_plugins.handlers.training_pictures import TrainingPictures
from medad_plugins.synthesis import Recipe

__all__ = ["StandardHandlers"]


class StandardHandlers:
    """Keeps the best weights, resumes, shows progress and pictures; at the end calibrates, saves and tests.

    It stands last among a trainer's handlers, so that what a method adds (a schedule, a moving average, a fit at the
    end) has had its turn. In order: `KeepBest`, `ResumableCheckpoint`, `TrainingProgress`, `TrainingPictures`,
    `TensorBoardLog`, `CalibrateAndSave`, `TestAtEnd`. It only puts them together: a new concern is a handler of its
    own.

    Args:
        setup: what is trained on what.
        optimizer: its optimiser, or several; None for a method that is fitted in passes, which has no weights to choose
            among and no pictures on the way.
        training_recipes: of synthetic anomalies that the method is trained with, see `KeepBest`.
        pictures: draw `TrainingPictures`; False where there is no map before something is fitted at the end.
        stateful: see `ResumableCheckpoint`.
        seconds: see `ResumableCheckpoint`.
        test_pictures: see `TestAtEnd`.
        ends: False leaves out what happens at the end, for whoever does it otherwise, e.g. a federation.
    """

    def __init__(
        self,
        setup: TrainingSetup,
        optimizer: torch.optim.Optimizer | NamedOptimizers | None = None,
        training_recipes: Sequence[Recipe] = (),
        pictures: bool = True,
        stateful: Mapping[str, Stateful] | None = None,
        seconds: float = 20.0,
        test_pictures: int = 300,
        ends: bool = True,
    ) -> None:
        self.setup, self.optimizer, self.training_recipes = setup, optimizer, training_recipes
        self.pictures, self.stateful, self.seconds = pictures, stateful, seconds
        self.test_pictures, self.ends = test_pictures, ends

    def attach(self, engine: Engine) -> None:
        """Register all of them with a trainer."""
        for handler in self.handlers():
            handler.attach(engine)

    def handlers(self) -> list[Any]:
        """In their order."""
        setup = self.setup
        found: list[Any] = [] if self.optimizer is None else [self._keep_best()]
        found += [self._checkpoint(), TrainingProgress()]
        if self.optimizer is not None and self.pictures:
            cut = setup.scan.slice_axis
            parts = setup.network, setup.held_out(), setup.output_dir, setup.inferer
            found.append(TrainingPictures(*parts, slice_axis=cut))
        if setup.tensorboard:
            found.append(TensorBoardLog(setup.output_dir))
        if self.ends:
            found += [self.calibrator(), self.tester()]
        return found

    def _keep_best(self) -> KeepBest:
        setup = self.setup
        return KeepBest(
            path=setup.beside_model(".best"),
            network=setup.network,
            by=setup.select_by,
            cases=setup.cohort.selection,
            preprocessing=setup.preprocessing,
            inferer=setup.inferer,
            training_recipes=self.training_recipes,
            resume=setup.resume,
        )

    def _checkpoint(self) -> ResumableCheckpoint:
        setup = self.setup
        return ResumableCheckpoint(
            path=setup.beside_model(".stopped"),
            network=setup.network,
            optimizer=self.optimizer,
            resume=setup.resume,
            seconds=self.seconds,
            others=self.stateful,
        )

    def calibrator(self) -> CalibrateAndSave:
        """What calibrates and saves."""
        setup = self.setup
        return CalibrateAndSave(
            path=setup.ckpt_path,
            network=setup.network,
            loader=setup.held_out(),
            bundle=setup.bundle,
            settings=setup.model_settings,
            inferer=setup.inferer,
        )

    def tester(self) -> TestAtEnd:
        """What tries the model on the test set."""
        setup = self.setup
        return TestAtEnd(
            cases=setup.cohort.test,
            preprocessing=setup.preprocessing,
            network=setup.network,
            output_dir=setup.output_dir,
            device=setup.device,
            inferer=setup.inferer,
            batch_size=setup.batch_size,
            num_workers=setup.num_workers,
            name=setup.cohort.name,
            validation=setup.cohort.labelled_validation,
            pictures=self.test_pictures,
        )

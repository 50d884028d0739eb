"""What happens around every training, in the one order that is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from medad_plugins.claims import claim_folder, release_folder
from medad_plugins.engines import NamedOptimizers, TrainingSetup
from medad_plugins.engines.training_keys import known_data, plain_keys
from medad_plugins.files import output_folder
from medad_plugins.handlers.calibrate_and_save import CalibrateAndSave
from medad_plugins.handlers.cross_scores import cross_scores
from medad_plugins.handlers.look_at_scans import LookAtScans
from medad_plugins.handlers.progress import TrainingProgress
from medad_plugins.handlers.resumable_checkpoint import ResumableCheckpoint, Stateful
from medad_plugins.handlers.selection import KeepBest
from medad_plugins.handlers.tensorboard import TensorBoardLog
from medad_plugins.handlers.testing import TestAtEnd
from medad_plugins.handlers.training_pictures import TrainingPictures
from medad_plugins.running_config import running_config
from medad_plugins.synthesis import Recipe

__all__ = ["StandardHandlers"]


class StandardHandlers:
    """Looks at the scans, keeps the best weights, resumes, shows progress; at the end calibrates, saves and tests.

    It stands last among a trainer's handlers, so that what a method adds (a schedule, a moving average, a fit at the
    end) has had its turn. In order: `LookAtScans`, `KeepBest`, `ResumableCheckpoint`, `TrainingProgress`,
    `TrainingPictures`, `TensorBoardLog`, `CalibrateAndSave`, `TestAtEnd`. The files to go on from are removed once the
    model is saved, and the output folder is this training's alone until its end (`claim_folder`). It only puts them
    together: a new concern is a handler of its own.

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
        # of which a stopped training keeps the keys; None where handlers are put together without a configuration
        self.parser = running_config(ConfigParser)

    def attach(self, engine: Engine) -> None:
        """Register all of them with a trainer."""
        engine.add_event_handler(Events.STARTED, self._claim)
        for handler in self.handlers():
            handler.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._release)

    def _claim(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            claim_folder(output_folder(self.setup.output_dir))

    def _release(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            release_folder(self.setup.output_dir)

    def handlers(self) -> list[Any]:
        """In their order."""
        setup = self.setup
        kept: list[KeepBest | ResumableCheckpoint] = [] if self.optimizer is None else [self._keep_best()]
        kept.append(self._checkpoint())
        found: list[Any] = [self._look()] if self.ends else []
        found += [*kept, TrainingProgress()]
        if self.optimizer is not None and self.pictures:
            cut = setup.scan.slice_axis if isinstance(setup.scan.slice_axis, int) else None
            middle = None if setup.scan.tiles is None else setup.scan.edges
            parts = setup.network, setup.held_out(), setup.output_dir, setup.inferer
            found.append(TrainingPictures(*parts, slice_axis=cut, middle=middle))
        if setup.tensorboard:
            found.append(TensorBoardLog(setup.output_dir))
        if self.ends:
            found += [self.calibrator(), ForgetState(kept), self.tester()]
        return found

    def _look(self) -> LookAtScans:
        setup = self.setup
        others = [*setup.cohort.selection, *setup.cohort.test]
        parts = setup.cohort.validation, others, setup.preprocessing, setup.batch_size, setup.num_workers
        return LookAtScans(*parts)

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
            keys=partial(plain_keys, self.parser),
            data=known_data(setup.cohort),
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
            group=setup.group,
            crossed=partial(cross_scores, self.parser) if setup.cohort.calibration == "cross" else None,
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


class ForgetState:
    """Removes what a training could be resumed from, once its model is saved."""

    def __init__(self, kept: Sequence[KeepBest | ResumableCheckpoint]) -> None:
        self.kept = kept

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for handler in self.kept:
            handler.forget()

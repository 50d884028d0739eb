"""A hospital in a federation: trains and calibrates on its own scans, and answers with numbers about them."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medad_plugins.engines import FittingTrainer
from medad_plugins.errors import InputError
from medad_plugins.federated.messages import CALIBRATE, FINISH, FIT, TRAIN, Reply, Request
from medad_plugins.federated.training_config import TrainingConfig
from medad_plugins.versions import require_fits

__all__ = ["BundleSite"]

logger = logging.getLogger(__name__)


class BundleSite:
    """One site's part in a federation, for any bundle and any host that carries requests and replies.

    Training by gradient goes on from round to round with its optimiser's state, so that all rounds together are the
    bundle's schedule. Sums over cases leave the site as they are; other fitted state is fitted here first.

    Args:
        name: of the site.
        bundle_root: the bundle's folder on this machine.
        least_cases: fewer training cases than that, or fewer held-out ones, are not made public in any form.
        keys: values of the bundle's ``train.yaml``, e.g. ``dataset_dir``.

    Raises:
        InputError: what the bundle's training refuses, or there are fewer cases than ``least_cases``.
    """

    def __init__(self, name: str, bundle_root: str | os.PathLike[str], least_cases: int = 5, **keys: Any) -> None:
        self.name, self.least_cases = name, least_cases
        self.training = TrainingConfig(bundle_root, keys)
        self._epochs = 0  # of the whole schedule, once the trainer is there
        self._require_enough(self.training.cases, "to train on")

    def _require_enough(self, cases: int, purpose: str) -> None:
        if cases < self.least_cases:
            raise InputError(
                f"there are too few normal cases {purpose} to hide each among the others",
                where=self.name,
                expected=f"at least {self.least_cases}",
                found=cases,
                todo="add cases, or leave this site out",
            )

    def answer(self, request: Request) -> Reply:
        """Load the server's state, run the step, and return what has changed.

        Raises:
            InputError: the server trains another model, or the step cannot be done.
        """
        self._require_same_model(request.model)
        self.training.network.load_state_dict(dict(request.state), strict=True)
        steps = {TRAIN: self._train, FIT: self._fit, CALIBRATE: self._calibrate, FINISH: self._finish}
        cases = steps[request.step](request)
        return Reply(self.name, cases, _changes(request.state, self.training.network.state_dict()))

    def _require_same_model(self, theirs: str) -> None:
        expected, own = json.loads(theirs), json.loads(self.training.description())
        require_fits(expected.pop("medad_version", None), "federation", self.name)
        own.pop("medad_version")
        if own != expected:
            raise InputError(
                "the federation trains another model than this site",
                where=self.name,
                expected=json.dumps(expected),
                found=json.dumps(own),
                todo="give the same bundle and the same keys to all sites",
            )

    def _train(self, request: Request) -> int:
        trainer = self.training.trainer
        if isinstance(trainer, FittingTrainer):
            trainer.fits_at_end = not self.training.sums
        else:
            self._set_end(trainer.state, request)
        trainer.run()
        return self.training.cases

    def _set_end(self, state: Any, request: Request) -> None:
        """Let the trainer stop where this round's share of its schedule ends."""
        self._epochs = self._epochs or state.max_epochs
        if request.rounds > self._epochs:
            raise InputError(
                "there are more rounds than parts of the training",
                where="rounds",
                expected=f"at most {self._epochs}",
                found=request.rounds,
                todo="give fewer rounds or more max_iterations",
            )
        state.max_epochs = self._epochs * (request.number + 1) // request.rounds

    def _fit(self, request: Request) -> int:
        """Sums over the own cases by the network of all sites, for the server to fit to those of all."""
        self.training.fitter().collect()
        return self.training.cases

    def _calibrate(self, request: Request) -> int:
        self.training.calibrator().calibrate()
        cases = int(self.training.network.calibration.reference_scores.numel())
        self._require_enough(cases, "to calibrate on")
        return cases

    def _finish(self, request: Request) -> int:
        """Keep the model, calibrated on all sites, and try it on the own test set; the figures stay here."""
        self.training.calibrator().save()
        self.training.tester()(self.training.trainer)
        return self.training.cases


def _changes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    own = {name: value.detach().cpu() for name, value in after.items()}
    return {name: value.clone() for name, value in own.items() if not torch.equal(value, before[name].cpu())}

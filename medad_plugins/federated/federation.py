"""The server's part: rounds of training, one calibration on all sites, one model file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medad_plugins.engines import save_model
from medad_plugins.errors import InputError
from medad_plugins.federated.merging import merge_replies
from medad_plugins.federated.messages import CALIBRATE, FINISH, FIT, TRAIN, Reply, Request
from medad_plugins.federated.training_config import TrainingConfig
from medad_plugins.files import output_folder
from medad_plugins.protocols import Fittable

__all__ = ["Federation"]

logger = logging.getLogger(__name__)


class Federation:
    """Trains a bundle on the scans of several sites, without scans of its own, and keeps the model.

    The server builds the network as ``train.yaml`` says, on the processor, and sends its state; so pretrained weights
    are those of the server. The held-out cases of all sites calibrate the last state, as they would at one place.

    Args:
        bundle_root: the bundle's folder on this machine.
        rounds: how often the sites' networks become one; methods that are fitted in passes take one round.
        keys: values of the bundle's ``train.yaml``, those that the sites are given too.

    Raises:
        InputError: what the bundle's training refuses, or a number is too small.
    """

    def __init__(self, bundle_root: str | os.PathLike[str], rounds: int = 5, **keys: Any) -> None:
        if rounds < 1:
            raise InputError("a number is too small", where="rounds", expected="at least 1", found=rounds)
        self.training = TrainingConfig(bundle_root, {"device": "cpu", **keys}, with_scans=False)
        self.network = self.training.network
        self.rounds = 1 if self.training.by_passes else rounds

    def run(self, ask: Callable[[Request], Sequence[Reply]]) -> Path:
        """Go through all steps, the last of which gives the model to the sites.

        Args:
            ask: sends a request to every site and gives their replies.

        Returns:
            where the server keeps the model.
        """
        path = self.training.model_path
        output_folder(path.parent)  # better refused now than after the training
        for number in range(self.rounds):
            replies = ask(self._request(TRAIN, number))
            merge_replies(self.network, replies)
            if self.training.sums and self.training.by_passes:
                self._fit()
            cases = ", ".join(f"{reply.site} {reply.cases}" for reply in replies)
            logger.info("round %d of %d, normal cases to train on: %s.", number + 1, self.rounds, cases)
        if self.training.fits_after_training:
            merge_replies(self.network, ask(self._request(FIT)))
            self._fit()
        merge_replies(self.network, ask(self._request(CALIBRATE)))
        logger.info("calibrated on %d held-out normal cases.", self.network.calibration.reference_scores.numel())
        save_model(path, self.network, **self.training.model())
        logger.info("saved %s", path)
        ask(self._request(FINISH))
        return path

    def _fit(self) -> None:
        assert isinstance(self.network, Fittable)
        self.network.fit()

    def _request(self, step: str, number: int = 0) -> Request:
        state = {name: value.clone() for name, value in self.network.state_dict().items()}
        return Request(step, self.training.description(), state, number, self.rounds)

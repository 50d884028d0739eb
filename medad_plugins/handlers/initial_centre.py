"""A centre that is taken from the network as it stands, before it is trained towards it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import default_prepare_batch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from medad_plugins.errors import InputError
from medad_plugins.protocols import Centred

__all__ = ["InitialCentre"]


class InitialCentre:
    """Before an iteration, sets a network's centre to the mean embedding of all normal scans, seen once in eval mode.

    With several ranks, each sees its share. A training that is resumed later has the centre in its state.

    Args:
        network: with ``embed(image)``, ``(B, C, *spatial)`` to ``(B, D)``, and ``set_centre(mean)``, ``(D,)``.
        loader: every normal scan once, e.g. `medad_plugins.data.PassLoader`; a rank's batch may be empty.
        device: where the network is.
        iteration: counted from 1.
        prepare_batch: as in MONAI; its first result is embedded.
        inferer: how the network is called.

    Raises:
        InputError: the training ends before that iteration, or embeddings are not finite.
    """

    def __init__(
        self,
        network: Centred,
        loader: Iterable[Any],
        device: str | torch.device = "cpu",
        iteration: int = 1,
        prepare_batch: Callable[..., Any] = default_prepare_batch,
        inferer: Inferer | None = None,
    ) -> None:
        if iteration < 1:
            raise ValueError(f"iteration must be at least 1, got {iteration}.")
        self.network, self.loader, self.device = network, loader, device
        self.iteration, self.prepare_batch = iteration, prepare_batch
        self.inferer = inferer or SimpleInferer()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._require_time)
        engine.add_event_handler(Events.ITERATION_STARTED(once=self.iteration), self)

    def _require_time(self, engine: Engine) -> None:
        state: Any = engine.state
        iterations = state.max_epochs * state.epoch_length
        if iterations < self.iteration:
            raise InputError(
                "the training ends before there is a centre to train towards",
                where="pretrain_iterations",
                expected=f"fewer than the {iterations} of the training",
                found=self.iteration - 1,
                todo="raise --max_iterations or lower --pretrain_iterations",
            )

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        was_training = self.network.training
        self.network.eval()
        try:
            # a rank that has no case adds nothing, and knows no width before it has seen one
            total, count = torch.zeros(1, dtype=torch.float64, device=self.device), 0
            for batch in self.loader:
                if batch:
                    image = self.prepare_batch(batch, self.device, False)[0]
                    embeddings = self.inferer(image, self.network.embed)
                    total, count = total + embeddings.double().sum(0), count + len(embeddings)
        finally:
            self.network.train(was_training)
        mean = _mean_over_ranks(total, count)
        if not bool(torch.isfinite(mean).all()):
            todo = "lower the learning rate of the first stage or use --precision float32"
            raise InputError("the embeddings of the normal scans are not finite", todo=todo)
        self.network.set_centre(mean)


def _mean_over_ranks(total: Tensor, count: int) -> Tensor:
    if idist.get_world_size() == 1:
        return total / count
    width = int(idist.all_reduce(len(total), op="MAX"))
    summed = idist.all_reduce(torch.cat([total.expand(width), total.new_tensor([count])]))
    assert isinstance(summed, Tensor)
    return summed[:-1] / summed[-1]

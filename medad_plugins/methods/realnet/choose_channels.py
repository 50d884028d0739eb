"""What a network has to see before its training begins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medad_plugins.engines.distributed import sum_over_ranks
from medad_plugins.methods.realnet.network import RealNet

__all__ = ["ChooseChannels"]

logger = logging.getLogger(__name__)


class ChooseChannels:
    """Before a training, shows the network batches to choose its feature channels by, unless it has chosen already.

    A resumed training keeps the channels it was stopped with: they are in its state dict. Of several ranks, each shows
    its share, and all choose alike.

    Args:
        network: what is trained; it has ``is_chosen``, ``observe(input, mask)`` and ``choose()``, see
            `medad_plugins.methods.realnet.RealNet`.
        batches: of scans, e.g. of `medad_plugins.data.IterationLoader`.
        prepare_batch: makes input and mask of a batch, as the trainer's own.
    """

    def __init__(
        self, network: RealNet, batches: Iterable[Any], prepare_batch: Callable[..., tuple[Tensor, Any]]
    ) -> None:
        self.network, self.batches, self.prepare_batch = network, batches, prepare_batch

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        network = self.network
        if network.is_chosen:
            return
        # what loads the batches draws from the generator that a resumed training takes up again
        state, was_training = torch.get_rng_state(), network.training
        network.eval()
        device = next(network.parameters()).device
        logger.info("choosing feature channels by scans with synthetic anomalies.")
        for batch in self.batches:
            network.observe(*self.prepare_batch(batch, device))
        sum_over_ranks(network)
        network.choose()
        network.train(was_training)
        torch.set_rng_state(state)

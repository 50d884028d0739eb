"""What is fitted to the features of a network that learns by gradient: once it is trained, or before every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import default_prepare_batch
from monai.inferers import Inferer, SimpleInferer

from medad_plugins.engines.distributed import sum_over_ranks
from medad_plugins.protocols import Fittable

__all__ = ["FitAfterTraining", "FitBeforeEpochs", "FitBeforeTraining"]


class FitAfterTraining:
    """When the training ends, shows the network its normal scans once more: ``collect(image)`` by batches, ``fit()``.

    Place it before what calibrates and saves. With several ranks, each collects its share, and the sums that
    `medad_plugins.scorers.fitted.FittedModule` names as additive are added up.

    Args:
        network: has ``collect`` and ``fit``; in eval mode while it collects.
        loader: every normal scan once, e.g. `medad_plugins.data.PassLoader`; a rank's batch may be empty.
        device: where the network is.
        prepare_batch: as in MONAI; its first result is collected.
        inferer: how the network is called.
        every_epoch: fit at the end of every epoch of the engine, for what judges the network there; it must then stand
            before that.
        enabled: False does nothing, for a form of the method that needs no such pass.
    """

    def __init__(
        self,
        network: Fittable,
        loader: Iterable[Any],
        device: str | torch.device = "cpu",
        prepare_batch: Callable[..., Any] = default_prepare_batch,
        inferer: Inferer | None = None,
        every_epoch: bool = False,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self.network, self.loader, self.device = network, loader, device
        self.prepare_batch, self.inferer, self.every_epoch = prepare_batch, inferer or SimpleInferer(), every_epoch

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.enabled:
            engine.add_event_handler(Events.EPOCH_COMPLETED if self.every_epoch else Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        self.collect()
        sum_over_ranks(self.network)
        self.network.fit()

    @torch.no_grad()
    def collect(self) -> None:
        """Let the network see this process's share of the normal scans, without fitting."""
        was_training = self.network.training
        self.network.eval()
        try:
            for batch in self.loader:
                if batch:
                    image = self.prepare_batch(batch, self.device, False)[0]
                    self.inferer(image, self.network.collect)
        finally:
            self.network.train(was_training)


class FitBeforeEpochs(FitAfterTraining):
    """The same at the beginning of every epoch of the engine, for what the loss of its iterations is to know.

    Args:
        network: has ``collect`` and ``fit``; in eval mode while it collects.
        loader: see `FitAfterTraining`, as the others.
    """

    def __init__(
        self,
        network: Fittable,
        loader: Iterable[Any],
        device: str | torch.device = "cpu",
        prepare_batch: Callable[..., Any] = default_prepare_batch,
        inferer: Inferer | None = None,
        enabled: bool = True,
    ) -> None:
        super().__init__(network, loader, device, prepare_batch, inferer, enabled=enabled)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.enabled:
            engine.add_event_handler(Events.EPOCH_STARTED, self)


class FitBeforeTraining(FitAfterTraining):
    """The same once, before the first iteration; a training that is resumed later has what was fitted in its state.

    Args:
        network, loader, device, prepare_batch, inferer, enabled: see `FitAfterTraining`.
    """

    def attach(self, engine: Engine) -> None:
        """Register with a trainer; place it before what needs the fitted network at the first iteration."""
        if self.enabled:
            engine.add_event_handler(Events.ITERATION_STARTED(once=1), self)

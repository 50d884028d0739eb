"""Trainer for methods that look at the data once and solve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.trainer import SupervisedTrainer
from monai.engines.utils import IterationEvents, default_prepare_batch
from monai.inferers import Inferer
from monai.utils.enums import CommonKeys

from medad_plugins.engines.distributed import additive_buffers, gather_images, sum_over_ranks
from medad_plugins.engines.scan_batch import ScanBatch
from medad_plugins.networks.along_axes import AlongAxes
from medad_plugins.plain_tensor import plain_tensor
from medad_plugins.protocols import Fittable

__all__ = ["FittingTrainer"]


class FittingTrainer(SupervisedTrainer):
    """Fits a network in passes over the data, no gradients: ``collect(batch)`` each iteration, ``fit()`` at the end.

    A `SupervisedTrainer`, as federated clients and MONAI's handlers expect, without optimiser and loss.

    Several processes fit what one would: each collects its share of every batch and the sums that `FittedModule` names
    as additive are added up before ``fit()``; a network without such sums is shown the whole batch on every rank, so
    that only the reading of scans is shared.

    Args:
        device: where to run.
        train_data_loader: batches of normal cases, e.g. of `medad_plugins.data.PassLoader`; on a rank that has no case
            left for the last one, that batch is empty.
        network: module with ``collect(image)`` and ``fit()``, e.g. `medad_plugins.methods.padim.PaDiM`.
        max_epochs: passes over the data.
        epoch_length: iterations of a pass; None takes the loader's length.
        prepare_batch: as in MONAI; its first result is collected. `AlongAxes` is shown volumes whole.
        inferer: how ``collect`` is called, e.g. in the precision in which scans are scored later.
        train_handlers: as in MONAI; at the trainer's end the network is fitted.

    Attributes:
        fits_at_end: False leaves the network as it was collected, for whoever solves what several trainers collected.

    Example:
        >>> from medad_plugins.engines import ScanBatch
        >>> from medad_plugins.methods.padim import PaDiM
        >>> network = PaDiM(backbone="resnet10", weights="none", dimensions=8)
        >>> batches = [{"image": torch.rand(4, 1, 32, 32)} for _ in range(3)]
        >>> FittingTrainer("cpu", batches, network, prepare_batch=ScanBatch()).run()
        >>> network.eval()(torch.rand(1, 1, 32, 32)).shape
        torch.Size([1, 1, 32, 32])
    """

    def __init__(
        self,
        device: str | torch.device,
        train_data_loader: Iterable[Any],
        network: torch.nn.Module,
        max_epochs: int = 1,
        epoch_length: int | None = None,
        prepare_batch: Callable[..., Any] = default_prepare_batch,
        train_handlers: Sequence[Any] | None = None,
        inferer: Inferer | None = None,
    ) -> None:
        if not isinstance(network, Fittable):
            method = "fit" if hasattr(network, "collect") else "collect"
            raise ValueError(f"{type(network).__name__} cannot be fitted: it has no method {method}().")
        self.fitted: Fittable = network
        if isinstance(network, AlongAxes):
            prepare_batch = ScanBatch()  # it cuts volumes itself
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network,
            optimizer=None,  # type: ignore[arg-type]
            loss_function=None,  # type: ignore[arg-type]
            epoch_length=epoch_length,
            prepare_batch=prepare_batch,
            inferer=inferer,
            train_handlers=train_handlers,
        )
        self.fits_at_end = True
        self._adds_up = bool(additive_buffers(network))
        # the last epoch ends before any handler of COMPLETED runs, so calibration always sees the fitted network
        self.add_event_handler(Events.EPOCH_COMPLETED, self._fit_after_last_epoch)

    def _fit_after_last_epoch(self, engine: Engine) -> None:
        if self.fits_at_end and engine.state.epoch == engine.state.max_epochs:
            sum_over_ranks(self.network)
            self.fitted.fit()

    def _iteration(self, engine: Any, batchdata: Any) -> dict[str, Any]:
        image = self._images(engine, batchdata) if batchdata else None
        engine.network.train()
        if idist.get_world_size() > 1 and not self._adds_up:
            engine.inferer(gather_images(image), engine.network.collect)
        elif image is not None:
            engine.inferer(image, engine.network.collect)
        if image is None:
            return {}
        engine.state.output = {CommonKeys.IMAGE: image}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        output: dict[str, Any] = engine.state.output
        return output

    @staticmethod
    def _images(engine: Any, batchdata: Any) -> torch.Tensor:
        image = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)[0]
        images: torch.Tensor = plain_tensor(image)
        return images

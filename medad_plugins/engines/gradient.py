"""Trainer of methods with one loss and one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from monai.engines.trainer import SupervisedTrainer
from torch import nn

from medad_plugins.engines.distributed import shared_network

__all__ = ["GradientTrainer"]


class GradientTrainer(SupervisedTrainer):
    """MONAI's `SupervisedTrainer` for one loss and one optimiser, which works under ``torchrun`` too.

    Batches stay whole: what a loss takes of them need not have one entry a case.

    Args:
        device: where to run.
        max_epochs: epochs of the engine, each as long as the loader.
        train_data_loader: batches, e.g. of `medad_plugins.data.IterationLoader`.
        network: the network; with several processes see `shared_network`.
        optimizer: of its parameters.
        loss_function: of what the network gives in train mode, and the batch's target.
        unused_parameters: whether the loss leaves out some of the parameters that require a gradient.
        others: as in MONAI.

    Example:
        >>> from torch import nn
        >>> network = nn.Linear(2, 2)
        >>> batches = [{"image": torch.ones(4, 2), "label": torch.zeros(4, 2)}]
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        >>> trainer = GradientTrainer("cpu", 3, batches, network, optimizer, nn.MSELoss())
        >>> trainer.run()
        >>> trainer.state.epoch, tuple(trainer.state.output["pred"].shape)
        (3, (4, 2))
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: Callable[..., Any],
        unused_parameters: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=shared_network(network, unused_parameters),
            optimizer=optimizer,
            loss_function=loss_function,
            decollate=False,
            **others,
        )

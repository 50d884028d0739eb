"""Learning rates that fall in steps during a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events

__all__ = ["StepLearningRate"]


class StepLearningRate:
    """Multiplies the learning rates by a factor after each of some shares of the training.

    They hang on the number of the iteration alone, so a resumed training goes on with the right ones.

    Args:
        optimizer: with the learning rates to start with.
        factor: of each step.
        after: shares of the iterations, 0..1.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, factor: float = 0.2, after: Sequence[float] = (0.8, 0.9)
    ) -> None:
        self.optimizer, self.factor, self.after = optimizer, factor, tuple(after)
        # taken now: a stopped training brings the rates it had reached
        self.first_rates = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        iterations = state.max_epochs * state.epoch_length
        steps = sum(state.iteration - 1 >= share * iterations for share in self.after)
        for group, rate in zip(self.optimizer.param_groups, self.first_rates, strict=True):
            group["lr"] = rate * self.factor**steps

"""A learning rate that falls along a cosine."""

from __future__ import annotations

import math
from typing import Any

import torch
from ignite.engine import Engine, Events

__all__ = ["CosineLearningRate"]


class CosineLearningRate:
    """Lowers each group's learning rate along half a cosine, from what it is to nearly zero at the last iteration.

    It follows the engine's count of iterations and keeps no state, so a resumed training has the rates that it would
    have had.

    Args:
        optimizer: as it begins.
        iterations: of the whole training.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, iterations: int) -> None:
        self.optimizer, self.iterations = optimizer, iterations
        # now, for a resumed optimiser brings the rates that it had come to
        self.first = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, (state.iteration - 1) / self.iterations)))
        for group, first in zip(self.optimizer.param_groups, self.first, strict=True):
            group["lr"] = first * share

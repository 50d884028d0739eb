"""Learning rates that depend on the iteration alone, so that a resumed training has them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["LearningRate"]


class LearningRate:
    """Multiplies an optimiser's learning rates by a factor of the iteration.

    Args:
        optimizer: as it begins; of `medad_plugins.engines.NamedOptimizers` one by its name, or all of them.
        factor: of the rates that the optimiser was made with, by the number of iterations done, from 0.
    """

    def __init__(self, optimizer: Any, factor: Callable[[int], float]) -> None:
        self.optimizer, self.factor = optimizer, factor
        # now, for a resumed optimiser brings the rates that it had come to
        self.first = [group["lr"] for group in optimizer.param_groups]

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        factor = self.factor(engine.state.iteration - 1)
        for group, first in zip(self.optimizer.param_groups, self.first, strict=True):
            group["lr"] = first * factor

"""Learning rates that depend on the iteration alone, so that a resumed training has them too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["LearningRate", "cosine_decay", "step_decay", "warm_cosine_decay"]


def cosine_decay(iterations: int) -> Callable[[int], float]:
    """Factor that falls along half a cosine from 1 to nearly 0 at the last of so many iterations."""
    return lambda done: 0.5 * (1 + math.cos(math.pi * min(1.0, done / iterations)))


def warm_cosine_decay(iterations: int, warmup: int = 0, last: float = 0.0) -> Callable[[int], float]:
    """Factor that rises in a line from 0 to 1 over the first iterations, then falls along half a cosine.

    Args:
        iterations: of the whole training.
        warmup: iterations of the rise; the first of them has the factor 0, the last 1.
        last: what it falls to.
    """
    falling = max(1, iterations - warmup)

    def factor(done: int) -> float:
        if done < warmup:
            return done / max(1, warmup - 1)
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / falling)))

    return factor


def step_decay(factor: float, after: Sequence[float], iterations: int, warmup: int = 0) -> Callable[[int], float]:
    """Factor that is multiplied by another after each of some shares, 0..1, of the iterations.

    Args:
        factor: the other.
        after: the shares.
        iterations: of the whole training.
        warmup: iterations in which it rises in a line before, to 1 at their last.
    """

    def of(done: int) -> float:
        rise = min(1.0, (done + 1) / warmup) if warmup else 1.0
        return rise * factor ** sum(done >= share * iterations for share in after)

    return of


class LearningRate:
    """Multiplies an optimiser's learning rates by a factor of the iteration.

    Args:
        optimizer: as it begins; of `medad_plugins.engines.NamedOptimizers` one by its name, or all of them.
        factor: of the rates that the optimiser was made with, by the number of iterations done, from 0; e.g.
            `cosine_decay`, `warm_cosine_decay` or `step_decay`.
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

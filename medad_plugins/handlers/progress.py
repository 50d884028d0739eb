"""Progress of a run: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from tqdm import tqdm

from medad_plugins.handlers.loss_terms import LossTerms, iteration_terms

__all__ = ["InferenceProgress", "TrainingProgress"]

logger = logging.getLogger(__name__)


def duration(seconds: float) -> str:
    """A time span for people, e.g. ``"45 s"`` or ``"12 min"``."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class _Progress(ABC):
    """Counts up to a total and says what is left.

    Args:
        description: what is going on, e.g. ``"training"``.
        unit: what is counted.
        lines: how many lines a log gets.
    """

    def __init__(self, description: str, unit: str, lines: int) -> None:
        self.description, self.unit, self.lines = description, unit, lines
        self._bar: tqdm[Any] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with an engine; with several ranks, the first logs for all."""
        if idist.get_rank() > 0:
            return
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.update)
        engine.add_event_handler(Events.COMPLETED, self.finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._close_and_raise)

    @abstractmethod
    def start(self, engine: Engine) -> None:
        """Begin to count."""

    @abstractmethod
    def update(self, engine: Engine) -> None:
        """Show one more iteration."""

    def _begin(self, total: int, first: int = 0) -> None:
        self.total, self.first, self.done = total, first, first
        self.began = time.perf_counter()
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=first, desc=self.description, unit=self.unit, dynamic_ncols=True, leave=False
            )

    def _advance(self, count: int, note: str = "") -> None:
        before, self.done = self.done, self.done + count
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
            return
        step = max(1, self.total // self.lines)
        if self.done >= self.total or before // step != self.done // step:
            text = f"{self.description}: {self.unit} {self.done} of {self.total}"
            logger.info("%s", ", ".join(filter(None, (text, note, f"{duration(self.seconds_left())} left"))))

    def seconds_left(self) -> float:
        """Time left at the pace so far."""
        pace = (time.perf_counter() - self.began) / max(1, self.done - self.first)
        return pace * max(0, self.total - self.done)

    def finish(self, engine: Engine) -> None:
        """Close the bar and say how long it took."""
        self._close()
        logger.info("%s took %s.", self.description, duration(time.perf_counter() - self.began))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _close_and_raise(self, engine: Engine, error: BaseException) -> None:
        self._close()
        raise error

    def say(self, text: str) -> None:
        """A line that does not break the bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            logger.info("%s", text)


class TrainingProgress(_Progress):
    """Iterations, loss with its terms and time left of a training; a `LossTerms` comes with it.

    Args:
        lines: how many lines a log gets.
        warm_up: iterations after which the whole duration is foretold.
    """

    def __init__(self, lines: int = 10, warm_up: int = 5) -> None:
        super().__init__("training", "iteration", lines)
        self.warm_up = warm_up

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        super().attach(engine)
        LossTerms().attach(engine)

    def start(self, engine: Engine) -> None:
        """Begin to count, where a resumed training goes on."""
        state: Any = engine.state
        self._begin(state.max_epochs * (state.epoch_length or 0), state.iteration)

    def update(self, engine: Engine) -> None:
        """Show one more iteration and its loss."""
        state: Any = engine.state
        self._advance(1, self._loss(state.output))
        if self.done - self.first == self.warm_up and self.done < self.total:
            self.say(f"training will take about {duration(self.seconds_left())} from here.")

    @staticmethod
    def _loss(output: Any) -> str:
        return ", ".join(f"{name} {float(value):.4g}" for name, value in iteration_terms(output).items())


class InferenceProgress(_Progress):
    """Cases and time left of an evaluator's run.

    Args:
        total: how many cases there are.
        lines: how many lines a log gets.
    """

    def __init__(self, total: int, lines: int = 10) -> None:
        super().__init__("inference", "case", lines)
        self.cases = total

    def start(self, engine: Engine) -> None:
        """Begin to count."""
        self._begin(self.cases)

    def update(self, engine: Engine) -> None:
        """Show the cases of one more batch."""
        batch: Any = engine.state.batch
        # as if the other ranks kept pace
        self._advance(min(len(batch) * idist.get_world_size(), self.total - self.done))

"""The loss of a training and its terms, kept where whatever watches a training looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor

from medad_plugins.engines.phased import TERMS

__all__ = ["LossTerms", "iteration_terms"]


def iteration_terms(output: Any) -> dict[str, Tensor]:
    """Loss and terms of an iteration's output by name, detached; empty for a trainer without a loss."""
    first = output[0] if isinstance(output, list) and output else output
    if not isinstance(first, Mapping) or CommonKeys.LOSS not in first:
        return {}
    # a number where the batch was taken apart into cases
    loss = torch.as_tensor(first[CommonKeys.LOSS]).detach()
    return {str(CommonKeys.LOSS): loss, **first.get(TERMS, {})}


class LossTerms:
    """Means over every epoch of the loss and its terms in ``engine.state.metrics``, as ``train_loss`` and by name.

    MONAI's handlers for MLflow and TensorBoard log them from there. For ``--tracking mlflow`` it also gives the output
    of an iteration the form that MONAI's own default settings read the loss from.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before whatever logs."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell)

    def _forget(self, engine: Engine) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def _add(self, engine: Engine) -> None:
        terms = iteration_terms(engine.state.output)
        for name, value in terms.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        # a list of cases, the first of which has the loss; without a loss nothing, or it would be looked for
        if not terms:
            engine.state.output = None
        elif not isinstance(engine.state.output, list):
            engine.state.output = [engine.state.output]  # type: ignore[assignment]

    def _tell(self, engine: Engine) -> None:
        for key in self._told:  # of a stage that is over
            engine.state.metrics.pop(key, None)
        self._told = set()
        for name, total in self._sums.items():
            key = "train_loss" if name == CommonKeys.LOSS else name
            engine.state.metrics[key] = float(total) / self._counts[name]
            self._told.add(key)

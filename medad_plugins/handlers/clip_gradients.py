"""Limits the gradients of a training."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

__all__ = ["ClipGradients"]


class ClipGradients:
    """Scales the gradients down to a highest global norm before every optimiser step.

    Args:
        network: whose gradients.
        max_norm: highest norm over all of them together.
    """

    def __init__(self, network: nn.Module, max_norm: float = 1.0) -> None:
        self.network, self.max_norm = network, max_norm

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        nn.utils.clip_grad_norm_(self.network.parameters(), self.max_norm)

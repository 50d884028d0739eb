"""Parts of a network that end as the moving average of what they were in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """Keeps exponential moving averages of the parameters of some children, and copies them back at the end.

    A child of decay d keeps at its n-th iteration the share ``min(d, (1 + n) / (10 + n))`` of its average, so that a
    training shorter than ``1 / (1 - d)`` iterations ends as an average of what it learnt, and not of the random
    weights that it began with: of these, after 1,200 iterations, a constant 0.9999 leaves nine tenths.

    Buffers, as the running statistics of batch norms, are not averaged. Place it before handlers that use the network
    at the end, such as `CalibrateAndSave`, and give it to `ResumableCheckpoint` among its ``others``.

    Args:
        network: the one network of a bundle.
        decays: for each child by name the largest share that the average keeps at an iteration, e.g.
            ``{generator: 0.999}``.
        until: iteration at whose end the averages are copied back for good, where other parts are trained against
            them from then on; None is the end of the training.

    Raises:
        ValueError: there is no such child, or a share is not between 0 and 1.
    """

    def __init__(self, network: nn.Module, decays: Mapping[str, float], until: int | None = None) -> None:
        children = dict(network.named_modules())
        for name, decay in decays.items():
            if name not in children or not 0 < decay < 1:
                raise ValueError(f"no moving average of {name!r} by {decay}: it needs a child and a share below 1.")
        self.decays = dict(decays)
        self._followed = {
            f"{child}.{name}": (parameter, decay)
            for child, decay in self.decays.items()
            for name, parameter in children[child].named_parameters()
        }
        self.until = until
        self.averages: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._follow)
        if self.until is None:
            engine.add_event_handler(Events.COMPLETED, self._give)

    def _start(self, engine: Engine) -> None:
        if not self.averages:  # else they are those of the training that goes on
            self.averages = {name: parameter.detach().clone() for name, (parameter, _) in self._followed.items()}

    @torch.no_grad()
    def _follow(self, engine: Engine) -> None:
        iteration = engine.state.iteration
        if self.until is not None and iteration > self.until:
            return
        early = (1 + iteration) / (10 + iteration)
        for name, (parameter, decay) in self._followed.items():
            self.averages[name].lerp_(parameter, 1 - min(decay, early))
        if iteration == self.until:
            self._give(engine)

    @torch.no_grad()
    def _give(self, engine: Engine) -> None:
        for name, (parameter, _) in self._followed.items():
            parameter.copy_(self.averages[name])

    def state_dict(self) -> dict[str, Any]:
        """The averages by the names of their parameters."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load averages.

        Raises:
            ValueError: they are of other parameters.
        """
        if state.keys() != self._followed.keys():
            raise ValueError("the moving averages are of other parameters.")
        self.averages = {n: state[n].clone().to(parameter) for n, (parameter, _) in self._followed.items()}

"""A phase: one step of a training with several losses and optimisers, and when it is due."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Phase", "Terms"]

Terms = dict[str, Tensor]


class Phase:
    """What is trained, on which loss, and at which iterations; `PhasedTrainer` runs a list of them in order.

    Args:
        name: for logs and errors, without a dot.
        loss: ``loss(network, batch)``, the named terms as scalars. The batch is a dictionary with ``image``
            ``(B, C, *spatial)`` and ``target``, what ``prepare_batch`` gives beside it. Terms are what the paper names,
            without their weights.
        optimizer: name of the optimiser that descends the terms' sum, or several names; or names with the terms that
            each of them descends, for two losses on one graph: ``{generator: [fooled], encoder: [cheated]}``. The phase
            trains exactly the parameters of its optimisers. All others get no gradient, but pass gradients on.
        weights: factors of terms; 1 where there is none.
        every, offset: it is due at iterations ``first + offset``, ``first + offset + every``, ...
        repeat: how often it is done on the same batch.
        first, last: iterations of its stage, counted from 1, both included; None has no end.
        clip: highest norm of all its gradients together; None leaves them.
        in_eval: children of the network that are in eval mode meanwhile, so that their batch norms neither use the
            batch nor follow it, and dropout leaves out nothing.
        after: what is called when it is done: the name of a method of the network without arguments, or
            ``after(network, terms)`` with the terms as plain numbers.

    Example:
        >>> def critic(network, batch):
        ...     return {"real": network(batch["image"]).mean()}
        >>> phase = Phase("critic", critic, "critic", every=2, last=6)
        >>> [iteration for iteration in range(1, 9) if phase.is_due(iteration)]
        [1, 3, 5]
    """

    def __init__(
        self,
        name: str,
        loss: Callable[[Any, dict[str, Any]], Mapping[str, Tensor]],
        optimizer: str | Sequence[str] | Mapping[str, Sequence[str]],
        weights: Mapping[str, float] | None = None,
        every: int = 1,
        offset: int = 0,
        repeat: int = 1,
        first: int = 1,
        last: int | None = None,
        clip: float | None = None,
        in_eval: Sequence[str] = (),
        after: str | Callable[[nn.Module, dict[str, float]], None] | None = None,
    ) -> None:
        if every < 1 or repeat < 1 or first < 1 or not 0 <= offset < every:
            given = f"every {every}, offset {offset}, repeat {repeat}, first {first}"
            raise ValueError(
                f"phase {name!r}: every, repeat and first are at least 1, 0 <= offset < every; got {given}."
            )
        if "." in name:
            raise ValueError(f"the name of a phase has no dot, got {name!r}.")
        if clip is not None and clip <= 0:
            raise ValueError(f"phase {name!r}: clip must be positive, got {clip}.")
        self.name, self.loss, self.weights = name, loss, dict(weights or {})
        self.every, self.offset, self.repeat, self.first, self.last = every, offset, repeat, first, last
        self.clip, self.in_eval, self.after = clip, tuple(in_eval), after
        # the terms of an optimiser; None takes all
        self.descends: dict[str, tuple[str, ...] | None]
        if isinstance(optimizer, Mapping):
            self.descends = {str(each): tuple(terms) for each, terms in optimizer.items()}
        else:
            names = [optimizer] if isinstance(optimizer, str) else optimizer
            self.descends = dict.fromkeys(names)

    def is_due(self, iteration: int) -> bool:
        """Whether it is done at an iteration, counted from 1."""
        since = iteration - self.first
        return since >= 0 and since % self.every == self.offset and (self.last is None or iteration <= self.last)

    def terms(self, network: nn.Module, batch: dict[str, Any]) -> Terms:
        """The loss's terms, checked."""
        found = dict(self.loss(network, batch))
        if not found:
            raise ValueError(f"the loss of phase {self.name!r} gave no term.")
        asked = {*self.weights, *(term for terms in self.descends.values() for term in terms or ())}
        unknown = sorted(asked - found.keys())
        if unknown:
            raise ValueError(f"the loss of phase {self.name!r} has no term {unknown[0]!r}; it has {', '.join(found)}.")
        for name, value in found.items():
            if value.dim():
                raise ValueError(f"term {name!r} of phase {self.name!r} is no scalar but {tuple(value.shape)}.")
        return found

    def finish(self, network: nn.Module, terms: Mapping[str, Tensor]) -> None:
        """Call what comes after it."""
        if isinstance(self.after, str):
            getattr(network, self.after)()
        elif self.after is not None:
            self.after(network, {name: float(value) for name, value in terms.items()})

    def total(self, terms: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Tensor:
        """Weighted sum of the terms, or of those named."""
        chosen = list(terms) if names is None else names
        return torch.stack([self.weights.get(name, 1.0) * terms[name] for name in chosen]).sum()

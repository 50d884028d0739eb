"""Several optimisers of one network, by name, as one thing to keep and to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

__all__ = ["NamedOptimizers", "parameters_of"]


def parameters_of(network: nn.Module, *children: str) -> list[nn.Parameter]:
    """Parameters of some children of a network that require a gradient, for an optimiser.

    Args:
        network: the one network of a bundle.
        children: names, e.g. ``"generator"`` or ``"encoder.stem"``; all of the network where there is none.

    Raises:
        ValueError: there is no such child, or nothing in it to train.

    Example:
        >>> network = torch.nn.ModuleDict({"generator": torch.nn.Linear(3, 2), "critic": torch.nn.Linear(2, 1)})
        >>> [tuple(parameter.shape) for parameter in parameters_of(network, "critic")]
        [(1, 2), (1,)]
    """
    found: list[nn.Parameter] = []
    for name in children or ("",):
        try:
            child = network.get_submodule(name)
        except AttributeError:
            known = ", ".join(name for name, _ in network.named_children())
            raise ValueError(f"{type(network).__name__} has no child {name!r}; it has {known}.") from None
        own = [parameter for parameter in child.parameters() if parameter.requires_grad]
        if not own:
            raise ValueError(f"nothing in {name!r} of {type(network).__name__} can be trained.")
        found += own
    return found


class NamedOptimizers:
    """Optimisers by name: what `PhasedTrainer` takes as its optimiser and `ResumableCheckpoint` keeps.

    Args:
        optimizers: PyTorch's optimisers by the names that phases call them by.

    Example:
        >>> network = torch.nn.Linear(3, 2)
        >>> optimizers = NamedOptimizers(all=torch.optim.Adam(network.parameters(), lr=1e-3))
        >>> list(optimizers), optimizers["all"].param_groups[0]["lr"]
        (['all'], 0.001)
    """

    def __init__(self, **optimizers: torch.optim.Optimizer) -> None:
        if not optimizers:
            raise ValueError("there is no optimiser.")
        self.optimizers = optimizers

    def __getitem__(self, name: str) -> torch.optim.Optimizer:
        return self.optimizers[name]

    def __contains__(self, name: object) -> bool:
        return name in self.optimizers

    def __iter__(self) -> Iterator[str]:
        return iter(self.optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them in order, as experiment trackers look for learning rates."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def parameters(self, *names: str) -> list[nn.Parameter]:
        """What the named ones train, each parameter once."""
        groups = [group for name in names for group in self.optimizers[name].param_groups]
        return list({id(parameter): parameter for group in groups for parameter in group["params"]}.values())

    def state_dict(self) -> dict[str, Any]:
        """The states by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load states by name.

        Raises:
            ValueError: they are of other optimisers.
        """
        if state.keys() != self.optimizers.keys():
            raise ValueError(f"the state is of the optimisers {list(state)}, not of {list(self.optimizers)}.")
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])

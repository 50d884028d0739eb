"""A copy of a network that follows it slowly."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self  # of Python 3.11

__all__ = ["MomentumCopy"]


class MomentumCopy(nn.Module):
    """A copy that takes no gradient and follows by a moving average, its batch norms' statistics as its parameters.

    It is in eval mode whatever mode the rest is in: norms of its own batch would let a query tell its key by the
    statistics that both were normalised with (EMAN: Cai et al., "Exponential moving average normalization for
    self-supervised and semi-supervised learning", CVPR 2021). It keeps at its n-th step the share
    ``min(decay, (1 + n) / (10 + n))``, so that a short training does not drag its random beginning along.

    Args:
        module: what is copied and followed.
        decay: largest share that stays at a step, below 1.

    Buffers:
        steps: how often it has followed.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> follower = MomentumCopy(layer, 0.9)
        >>> _ = torch.nn.init.constant_(layer.weight, 1.0)
        >>> follower.follow(layer)
        >>> int(follower.steps), follower.module.weight.requires_grad
        (1, False)
    """

    def __init__(self, module: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"the decay must lie in [0, 1), got {decay}.")
        self.decay = decay
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.steps: Tensor = nn.Buffer(torch.zeros((), dtype=torch.long))

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move towards what the module has become."""
        step = int(self.steps)
        kept = min(self.decay, (1 + step) / (10 + step))
        for own, other in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(other.to(own), 1 - kept)
            else:
                own.copy_(other)
        self.steps += 1

    # of the training alone, and beyond TorchScript
    @torch.jit.unused
    @torch.no_grad()
    def forward(self, values: Tensor) -> Any:
        return self.module(values)

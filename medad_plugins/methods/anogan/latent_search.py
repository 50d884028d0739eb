"""Descent to the latents that a generator would have to be given, each case for itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["search_latents"]

_BETAS, _SMALLEST = (0.9, 0.999), 1e-8


def search_latents(value: Callable[[Tensor], Tensor], first: Tensor, steps: int, rate: float) -> Tensor:
    """Lower a value of each case by steps of Adam on its latent.

    All that Adam keeps is kept for each number of each latent, and values are summed, so that a case goes the same way
    in whatever batch. Works where gradients are switched off around it, and leaves those of parameters alone; not in
    inference mode.

    Args:
        value: latents ``(B, L)`` to one number each, ``(B,)``, none dependent on its batch mates.
        first: where to begin, ``(B, L)``.
        steps: how many; after none of them the result is the beginning.
        rate: learning rate.

    Returns:
        ``(B, L)``, detached.

    Reference:
        Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """
    latents, mean, square = first.detach().clone(), torch.zeros_like(first), torch.zeros_like(first)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            own = latents.requires_grad_(True)
            (gradient,) = torch.autograd.grad(value(own).sum(), own)
        with torch.no_grad():
            mean = _BETAS[0] * mean + (1 - _BETAS[0]) * gradient
            square = _BETAS[1] * square + (1 - _BETAS[1]) * gradient.square()
            towards = mean / (1 - _BETAS[0] ** step)
            spread = (square / (1 - _BETAS[1] ** step)).sqrt() + _SMALLEST
            latents = latents.detach() - rate * towards / spread
    return latents

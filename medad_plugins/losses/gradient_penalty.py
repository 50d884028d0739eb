"""Penalty on the gradient of a critic with respect to what it rates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.networks.batch_noise import batch_uniform

__all__ = ["gradient_penalty"]


def _squared_norms(critic: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Squared norm over all values of a case of the gradient of its rating, ``(B,)``."""
    points = points.detach().requires_grad_(True)
    # the second derivative of half precision is noise
    with torch.enable_grad(), torch.autocast(points.device.type, enabled=False):
        ratings = full_precision(critic(points)).sum()
        (gradient,) = torch.autograd.grad(ratings, points, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Mean squared distance of the critic's gradient norm from 1, between real and generated cases; a scalar.

    A critic with batch norm must not be trained so: its gradient would be that of the whole batch.

    Args:
        critic: cases to one rating each, ``(B,)`` or ``(B, 1)``.
        real, fake: ``(B, ...)``, images, volumes or vectors. One point is drawn on the line between each pair.

    Reference:
        Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017.
    """
    real, fake = full_precision(real.detach()), full_precision(fake.detach())
    share = batch_uniform((len(real), *[1] * (real.dim() - 1)), real)
    norms = (_squared_norms(critic, torch.lerp(real, fake, share)) + 1e-12).sqrt()
    return (norms - 1).square().mean()

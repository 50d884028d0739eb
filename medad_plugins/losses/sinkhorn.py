"""Optimal transport between clouds of points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sinkhorn_divergence"]


def _softmin(cost: Tensor, potential: Tensor, epsilon: float) -> Tensor:
    """Smooth minimum of ``cost - potential`` over the last axis, whose points weigh the same."""
    exponent = (potential.unsqueeze(-2) - cost) / epsilon
    return -epsilon * (torch.logsumexp(exponent, -1) - math.log(cost.shape[-1]))


def _transport_cost(x: Tensor, y: Tensor, epsilons: list[float]) -> Tensor:
    """Entropic transport cost ``(B,)`` of clouds ``(B, N, D)`` and ``(B, M, D)`` at the last epsilon."""
    # differences, not a matrix product: points of a cloud are close to each other compared with their norms
    cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
    with torch.no_grad():
        f, g = cost.new_zeros(cost.shape[:-1]), cost.new_zeros(cost.shape[0], cost.shape[-1])
        for epsilon in epsilons:
            # both sides at once and averaged, so that neither cloud leads
            next_f, next_g = _softmin(cost, g, epsilon), _softmin(cost.mT, f, epsilon)
            f, g = (f + next_f) / 2, (g + next_g) / 2
        g = _softmin(cost.mT, _softmin(cost, g, epsilons[-1]), epsilons[-1])
    # at the optimum the potentials need no gradient of their own
    return _softmin(cost, g, epsilons[-1]).mean(-1) + g.mean(-1)


def sinkhorn_divergence(x: Tensor, y: Tensor, blur: float = 0.05, diameter: float = 1.0, steps: int = 10) -> Tensor:
    """How far apart two clouds of points are: entropic transport cost of ``|x - y|^2 / 2``, less that to themselves.

    Zero for equal clouds in whatever order, about half the squared Wasserstein-2 distance where ``blur`` is small
    against the distances, and half the squared distance of the means where it is large. In the logarithmic domain, with
    an epsilon that is lowered from the clouds' size to ``blur``.

    Args:
        x: ``(B, N, D)``, points of equal weight.
        y: ``(B, M, D)``.
        blur: distance below which points are not distinguished; epsilon is its square.
        diameter: about the largest distance between points.
        steps: at the last epsilon; ten come within about a tenth of the limit, some hundred within a percent.

    Returns:
        ``(B,)``, not negative but for rounding.

    Reference:
        Feydy et al., "Interpolating between Optimal Transport and MMD using Sinkhorn Divergences", AISTATS 2019.
    """
    halvings = max(0, math.ceil(math.log2(diameter / blur)))
    epsilons = [(blur * 2.0**i) ** 2 for i in range(halvings, 0, -1)] + [blur**2] * steps
    x, y = x.float(), y.float()
    own = _transport_cost(x, x, epsilons) + _transport_cost(y, y, epsilons)
    return _transport_cost(x, y, epsilons) - own / 2

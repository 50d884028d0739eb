"""Losses on latents and on features of a discriminator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medad_plugins.losses.full_precision import full_precision

__all__ = ["feature_matching", "gaussian_divergence", "latent_distance"]


def _distance(one: Tensor, other: Tensor, norm: str) -> Tensor:
    difference = full_precision(one) - full_precision(other)
    if norm == "l1":
        return difference.abs()
    if norm == "l2":
        return difference.square()
    raise ValueError(f"norm must be 'l1' or 'l2', got {norm!r}.")


def latent_distance(one: Tensor, other: Tensor, norm: str = "l2", reduction: str = "mean") -> Tensor:
    """Distance of two latents or feature maps ``(B, ...)``; a scalar.

    Args:
        one, other: of equal shape; both pass gradients on.
        norm: ``"l1"`` absolute or ``"l2"`` squared differences.
        reduction: ``"mean"`` over everything, or ``"sum"`` over each case and the mean over cases.
    """
    values = _distance(one, other, norm)
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.flatten(1).sum(1).mean()
    raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}.")


def feature_matching(
    real: Sequence[Tensor] | Tensor, fake: Sequence[Tensor] | Tensor, norm: str = "l2", reduction: str = "mean"
) -> Tensor:
    """How far a discriminator's features of generated cases are from those of real ones; a scalar.

    Case by case, not of the batch's means. The real ones are detached.

    Args:
        real, fake: feature maps ``(B, ...)``, or lists of them, whose distances are averaged.
        norm, reduction: see `latent_distance`.
    """
    pairs = [(real, fake)] if isinstance(real, Tensor) else list(zip(real, fake, strict=True))
    distances = [latent_distance(torch.as_tensor(f), torch.as_tensor(r).detach(), norm, reduction) for r, f in pairs]
    return torch.stack(distances).mean()


def gaussian_divergence(mean: Tensor, log_variance: Tensor, reduction: str = "mean") -> Tensor:
    """Kullback-Leibler divergence of Gaussians from the standard normal distribution; a scalar.

    Args:
        mean, log_variance: ``(B, ...)``; the logarithm of the variance, not of the standard deviation.
        reduction: ``"mean"`` over cases and latent values, whose weights are those of mean losses (a weight of 0.005
            or so beside a mean squared error); ``"sum"`` over latent values and the mean over cases, the divergence of
            the evidence bound.
    """
    mean, log_variance = full_precision(mean), full_precision(log_variance)
    values = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.flatten(1).sum(1).mean()
    raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}.")

"""What the weights are held to with which a memory's items are put together."""

from __future__ import annotations

from torch import Tensor

from medad_plugins.losses.full_precision import full_precision

__all__ = ["memory_entropy", "memory_weight_terms"]


def memory_entropy(weights: Tensor) -> Tensor:
    """Mean entropy, in nats, of weights ``(B, M, ...)`` over M items, of every query; low where few items count."""
    values = full_precision(weights)
    return -(values * (values + 1e-12).log()).sum(1).mean()


def memory_weight_terms(weights: Tensor) -> dict[str, Tensor]:
    """``entropy`` of weights ``(B, M, ...)`` over M items, and ``empty``.

    The latter is the share of queries that find nothing in the memory, all of whose weights were below the threshold:
    to be looked at, with a weight of 0.
    """
    found = weights.detach().sum(1) > 0
    return {"entropy": memory_entropy(weights), "empty": 1 - found.to(weights).mean()}

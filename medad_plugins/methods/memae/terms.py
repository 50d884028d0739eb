"""Terms of a memory-augmented autoencoder's loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.methods.memae.network import MemAE

__all__ = ["memory_entropy", "memory_terms"]


def memory_entropy(weights: Tensor) -> Tensor:
    """Mean entropy, in nats, of weights ``(B, M, ...)`` over M items, of every query; low where few items count."""
    values = full_precision(weights)
    return -(values * (values + 1e-12).log()).sum(1).mean()


def memory_terms(network: MemAE, batch: dict[str, Any]) -> dict[str, Tensor]:
    """``reconstruction``, the mean squared residual on -1..1, ``entropy`` of the memory's weights, and ``empty``.

    The latter is the share of queries that find nothing in the memory, all of whose weights were below the threshold:
    to be looked at, with a weight of 0.
    """
    image = batch["image"]
    reconstruction, weights = network.training_output(image)
    found = weights.detach().sum(1) > 0
    return {
        "reconstruction": (2 * full_precision(reconstruction - image)).square().mean(),
        "entropy": memory_entropy(weights),
        "empty": 1 - found.to(weights).mean(),
    }

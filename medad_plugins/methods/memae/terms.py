"""Terms of a memory-augmented autoencoder's loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.losses.memory import memory_weight_terms
from medad_plugins.methods.memae.network import MemAE

__all__ = ["memory_terms"]


def memory_terms(network: MemAE, batch: dict[str, Any]) -> dict[str, Tensor]:
    """``reconstruction``, the mean squared residual on -1..1, and `medad_plugins.losses.memory_weight_terms`."""
    image = batch["image"]
    reconstruction, weights = network.training_output(image)
    squares = (2 * full_precision(reconstruction - image)).square()
    return {"reconstruction": squares.mean(), **memory_weight_terms(weights)}

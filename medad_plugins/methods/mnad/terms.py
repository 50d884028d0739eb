"""Terms of a memory-guided autoencoder's loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from medad_plugins.losses.full_precision import full_precision
from medad_plugins.methods.mnad.network import MNAD

__all__ = ["prototype_terms"]


def prototype_terms(network: MNAD, batch: dict[str, Any]) -> dict[str, Tensor]:
    """``reconstruction``, ``compactness`` and ``separateness``; then the scans' queries are written into the memory.

    ``reconstruction`` is the mean squared residual on -1..1, ``compactness`` the mean squared difference of queries and
    their nearest items, and ``separateness`` the triplet margin, of 1, of nearest and second nearest: they teach the
    encoder, the items are constants in them.
    """
    image = batch["image"]
    reconstruction, queries = network.training_output(image)
    rows = full_precision(queries).movedim(1, -1).flatten(0, -2)
    nearest, second = network.memory.nearest_two(rows)
    terms = {
        "reconstruction": (2 * full_precision(reconstruction - image)).square().mean(),
        "compactness": functional.mse_loss(rows, nearest),
        "separateness": functional.triplet_margin_loss(rows, nearest, second, margin=1.0),
    }
    network.memory.write(rows)
    return terms

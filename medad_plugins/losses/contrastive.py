"""Contrastive losses: what belongs together is to be found among what does not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses.full_precision import full_precision

__all__ = ["info_nce", "supervised_contrast"]


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's key, the one at the same place, among all keys, by cosine; a scalar.

    One direction: only keys are negatives. Average it with the exchanged pair for the symmetric form.

    Args:
        queries, keys: ``(..., N, D)``; of leading axes, each set stands for itself. Both pass gradients on.
        temperature: the cosines are divided by it.

    Reference:
        van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018.
    """
    queries = functional.normalize(full_precision(queries), dim=-1)
    keys = functional.normalize(full_precision(keys), dim=-1)
    # autocast would compute the products in half precision, where near cosines over a small temperature blur
    with torch.autocast(queries.device.type, enabled=False):
        logits = queries @ keys.transpose(-1, -2) / temperature
    return -logits.log_softmax(-1).diagonal(dim1=-2, dim2=-1).mean()


def supervised_contrast(vectors: Tensor, classes: Tensor, temperature: float | Tensor) -> Tensor:
    """Cross-entropy of finding the other vectors of one's class among all others, by cosine; a scalar.

    With the scans' numbers for classes, and two views of each, it is SimCLR's loss. Vectors that are alone in their
    class are negatives of the others and are no anchors themselves.

    Args:
        vectors: ``(N, D)``.
        classes: whole numbers ``(N,)``.
        temperature: a number, or one for each vector ``(N,)``, that divides its cosines.

    Reference:
        Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, the form with the sum outside of the logarithm.
    """
    vectors = functional.normalize(full_precision(vectors), dim=1)
    with torch.autocast(vectors.device.type, enabled=False):
        cosines = vectors @ vectors.t()
    logits = cosines / torch.as_tensor(temperature, device=vectors.device, dtype=vectors.dtype).reshape(-1, 1)
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    chances = logits.masked_fill(itself, -torch.inf).log_softmax(1).masked_fill(itself, 0)
    fellows = (classes.unsqueeze(1) == classes.unsqueeze(0)) & ~itself
    count = fellows.sum(1)
    if not bool((count > 0).any()):
        raise ValueError("no vector has another one of its class in the batch.")
    return -((chances * fellows).sum(1) / count.clamp_min(1))[count > 0].mean()

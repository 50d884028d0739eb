"""Reading from a memory of feature vectors: what of it resembles a query."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hard_shrink", "look_up"]


def hard_shrink(weights: Tensor, threshold: Tensor) -> Tensor:
    """Weights that exceed a threshold, scaled so that they sum to one; the others become 0.

    Args:
        weights: ``(..., M)`` over M slots, not negative.
        threshold: of a shape that broadcasts. Where no weight exceeds it, all become 0.

    Reference:
        Gong et al., "Memorizing Normality to Detect Anomaly", ICCV 2019.
    """
    kept = torch.where(weights > threshold, weights, torch.zeros_like(weights))
    return kept / kept.sum(-1, keepdim=True).clamp_min(1e-12)


def look_up(queries: Tensor, slots: Tensor, top_k: int) -> Tensor:
    """What memories, one for each position, hold of queries: sums of the few slots that resemble a query most.

    Weights are the softmax of the unscaled products; those that exceed the ``top_k``-th largest count, so at most
    one fewer. The gradient passes as if all of them counted. Nothing is random in it, though its authors speak of
    Gumbel.

    Args:
        queries: ``(B, P, D)``, a vector for each of P positions.
        slots: ``(P, M, D)``.
        top_k: 2 to M.

    Returns:
        ``(B, P, D)``, in single precision or better.

    Reference:
        Xiang et al., "SQUID", CVPR 2023.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript wants its test alone
        if torch.is_autocast_enabled(queries.device.type):
            # of products of long vectors half precision leaves less than the softmax needs
            with torch.autocast(queries.device.type, enabled=False):
                return _looked_up(queries.to(slots.dtype), slots, top_k)
    return _looked_up(queries.to(slots.dtype), slots, top_k)


def _looked_up(queries: Tensor, slots: Tensor, top_k: int) -> Tensor:
    weights = torch.softmax(torch.bmm(queries.transpose(0, 1), slots.transpose(1, 2)), 2)  # (P, B, M)
    soft = weights.detach()
    hard = hard_shrink(soft, torch.topk(soft, top_k, dim=2).values[:, :, -1:])
    return torch.bmm(weights + (hard - soft), slots).transpose(0, 1)

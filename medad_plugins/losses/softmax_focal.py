"""Focal loss on the softmax of two classes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["softmax_focal"]


def softmax_focal(logits: Tensor, mask: Tensor, gamma: float = 2.0, smooth: float = 1e-5) -> Tensor:
    """Mean of ``-(1 - p) ** gamma * log(p)``, where p is the probability of the right class.

    Smoothed twice, as DRAEM's public code does: the right class counts ``1 - smooth`` and the other ``smooth``, and
    ``smooth`` is added to p.

    Args:
        logits: ``(B, 2, *spatial)`` of normal and abnormal.
        mask: ``(B, 1, *spatial)``, 0 or 1.
        gamma: how much less what is classified well already counts; 0 is the cross entropy.
        smooth: small positive number.

    Reference:
        Lin et al., "Focal loss for dense object detection", ICCV 2017.
    """
    normal, abnormal = torch.softmax(logits.float(), 1).split(1, 1)
    target = mask.to(abnormal.dtype).clamp(smooth, 1 - smooth)
    right = target * abnormal + (1 - target) * normal + smooth
    loss: Tensor = -((1 - right) ** gamma) * torch.log(right)
    return loss.mean()

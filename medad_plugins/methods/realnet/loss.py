"""Loss of RealNet: rebuild clean features and say where the anomaly was."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RealNetLoss"]


class RealNetLoss(nn.Module):
    """Cross-entropy of the pixels' classes plus the mean squared error of each level's rebuilt features.

    Args:
        rebuilding_weight: of the sum of the latter.

    Shape:
        the triple ``(logits, rebuilt, clean)`` of ``(B, 2, *spatial)`` and two lists of ``(B, C_k, *grid_k)``, and the
        mask ``(B, 1, *spatial)``, 0 or 1, to a scalar.

    Reference:
        Zhang et al., CVPR 2024.
    """

    def __init__(self, rebuilding_weight: float = 1.0) -> None:
        super().__init__()
        self.rebuilding_weight = rebuilding_weight

    def forward(self, output: tuple[Tensor, list[Tensor], list[Tensor]], mask: Tensor) -> Tensor:
        logits, rebuilt, clean = output
        loss = functional.cross_entropy(logits.float(), mask[:, 0].long())
        errors = [functional.mse_loss(own.float(), other.float()) for own, other in zip(rebuilt, clean, strict=True)]
        return loss + self.rebuilding_weight * torch.stack(errors).sum()

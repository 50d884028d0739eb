"""Cosine losses between feature maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GlobalCosineLoss"]


class GlobalCosineLoss(nn.Module):
    """Sum over scales of one minus the cosine between whole feature maps, averaged over the batch.

    Each case's map of a scale is one vector of all channels and locations. The gradient stops at the encoded side, so
    that the encoder cannot make its taps trivially easy to rebuild.

    Shape:
        pair ``(decoded, encoded)`` of lists of ``(B, C_k, *grid_k)`` to a scalar, 0..K for K scales of ReLU features.

    Reference:
        Guo et al., IEEE TMI 43(3), 2024.

    Example:
        >>> features = [torch.rand(2, 8, 4, 4), torch.rand(2, 16, 2, 2)]
        >>> loss = GlobalCosineLoss()((features, features))
        >>> bool(loss < 1e-6)
        True
    """

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        decoded, encoded = features
        distances = [
            1 - functional.cosine_similarity(d.flatten(1).float(), e.detach().flatten(1).float(), dim=1).mean()
            for d, e in zip(decoded, encoded)
        ]
        return torch.stack(distances).sum()

"""Cosine loss that learns from the locations that are hard."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.losses.global_cosine import GlobalCosineLoss

__all__ = ["HardMinedCosineLoss"]


class HardMinedCosineLoss(nn.Module):
    """Global cosine loss whose gradient passes hard locations only; its value is that of the global cosine loss.

    A location of a scale is easy where one minus its cosine lies below the mean over the batch's locations plus
    ``hardness`` standard deviations; there the gradient is multiplied by ``easy_factor``.

    Args:
        hardness: standard deviations above the mean; in ReContrast it rises from -3 to 1, see `set_hardness`.
        easy_factor: what is left of the gradient of easy locations, 0 to 1.
        weight: of the sum over scales; 0.5 for the two crossed halves of ReContrast.

    Shape:
        pair ``(decoded, encoded)`` of lists of ``(B, C_k, *grid_k)`` to a scalar.

    Reference:
        Guo et al., "ReContrast", NeurIPS 2023.
    """

    def __init__(self, hardness: float = 1.0, easy_factor: float = 0.0, weight: float = 1.0) -> None:
        super().__init__()
        self.hardness, self.easy_factor, self.weight = hardness, easy_factor, weight
        self.whole = GlobalCosineLoss()

    def set_hardness(self, hardness: float) -> None:
        """Take another hardness, as a schedule does."""
        self.hardness = hardness

    def _damped(self, decoded: Tensor, encoded: Tensor) -> Tensor:
        """The decoded map, its gradient damped at easy locations."""
        with torch.no_grad():
            distance = 1 - functional.cosine_similarity(decoded.float(), encoded.float(), dim=1)
            easy = distance < distance.mean() + self.hardness * distance.std()
            share = torch.where(easy, self.easy_factor, 1.0).to(decoded.dtype).unsqueeze(1)
        still = decoded.detach()
        # equals the decoded map, for what it adds is zero
        return still + share * (decoded - still)

    def forward(self, features: tuple[list[Tensor], list[Tensor]], target: Tensor | None = None) -> Tensor:
        """Loss of the features; ``target`` is there for engines that pass one and is not used."""
        decoded, encoded = features
        damped = [self._damped(d, e) for d, e in zip(decoded, encoded)]
        loss: Tensor = self.whole((damped, encoded))
        return self.weight * loss

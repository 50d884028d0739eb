"""Cosine loss that learns from the locations that are hard."""

from __future__ import annotations

import torch
from torch import Tensor

from medad_plugins.losses import MinedCosineLoss

__all__ = ["HardMinedCosineLoss"]


class HardMinedCosineLoss(MinedCosineLoss):
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
        super().__init__(weight)
        self.hardness, self.easy_factor = hardness, easy_factor

    def set_hardness(self, hardness: float) -> None:
        """Take another hardness, as a schedule does."""
        self.hardness = hardness

    def location_weights(self, distance: Tensor) -> Tensor:
        easy = distance < distance.mean() + self.hardness * distance.std()
        return torch.where(easy, self.easy_factor, 1.0)

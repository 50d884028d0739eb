"""The contract between a method and everything around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medad_plugins.scorers import Calibration, MapPool

__all__ = ["AnomalyNetwork"]


class AnomalyNetwork(nn.Module):
    """A method as one module: in eval mode scans become anomaly maps, in train mode they become what the loss takes.

    A subclass writes two methods, `training_output` and `anomaly_map`. The calibration travels in the state dict.

    Args:
        reduction: how a map becomes the image score, see `MapPool`.

    Shape:
        eval: ``(B, C, *spatial)``, intensities 0..1, to ``(B, 1, *spatial)``, float32, higher is more abnormal; a
        case's map does not depend on the other cases of its batch.

    Example:
        >>> class Brightness(AnomalyNetwork):
        ...     def anomaly_map(self, image):
        ...         return image.mean(1, keepdim=True)
        >>> network = Brightness(reduction="mean").eval()
        >>> anomaly_map = network(torch.full((2, 3, 8, 8), 0.5))
        >>> anomaly_map.shape, network.pool(anomaly_map)
        (torch.Size([2, 1, 8, 8]), tensor([0.5000, 0.5000]))
    """

    def __init__(self, reduction: str | float = "max") -> None:
        super().__init__()
        self.pool = MapPool(reduction)
        self.calibration = Calibration()

    def training_output(self, image: Tensor) -> Any:
        """What the loss takes: a reconstruction, pairs of feature maps, a prediction, ..."""
        raise TypeError(f"{type(self).__name__} is not trained by a loss.")

    def anomaly_map(self, image: Tensor) -> Tensor:
        """Anomaly map ``(B, 1, *spatial)`` of scans ``(B, C, *spatial)``."""
        raise TypeError(f"{type(self).__name__} has no anomaly map.")

    def scaled_to(self, score: Tensor, residual: Tensor) -> Tensor:
        """A residual ``(B, 1, *spatial)``, not negative, scaled so that it pools to each scan's score ``(B,)``."""
        # a tiny floor, so that a perfect reconstruction has a score too
        return self.pool.scaled_to(score, residual + 1e-6)

    def forward(self, image: Tensor) -> Tensor:
        # an exported network has no train mode, and TorchScript allows one return type and wants its test alone
        if not torch.jit.is_scripting():  # noqa: SIM102
            if self.training:
                output: Tensor = self.training_output(image)
                return output
        return self.anomaly_map(image)

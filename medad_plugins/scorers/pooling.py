"""Pooling of an anomaly map into one image score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MapPool"]


class MapPool(nn.Module):
    """Anomaly score of each case: the maximum, the mean, or the mean of the highest fraction of its map.

    Args:
        reduction: ``"max"`` for focal lesions, ``"mean"`` for diffuse disease, or a fraction in (0, 1): the mean of
            that share of the highest map values.

    Shape:
        anomaly map ``(B, 1, *spatial)`` to scores ``(B,)``.

    Example:
        >>> anomaly_map = torch.tensor([0.0, 0.2, 0.4, 1.0]).reshape(1, 1, 2, 2)
        >>> MapPool("max")(anomaly_map), MapPool("mean")(anomaly_map), MapPool(0.5)(anomaly_map)
        (tensor([1.]), tensor([0.4000]), tensor([0.7000]))
    """

    def __init__(self, reduction: str | float = "max") -> None:
        super().__init__()
        if reduction == "max":
            self.fraction = 0.0
        elif reduction == "mean":
            self.fraction = 1.0
        elif isinstance(reduction, (int, float)) and 0 < reduction < 1:
            self.fraction = float(reduction)
        else:
            raise ValueError(f"reduction must be 'max', 'mean' or a fraction between 0 and 1, got {reduction!r}.")

    def forward(self, anomaly_map: Tensor) -> Tensor:
        values = anomaly_map.flatten(1)
        if self.fraction == 0.0:
            return values.amax(1)
        if self.fraction == 1.0:
            return values.mean(1)
        count = max(1, int(self.fraction * values.shape[1] + 0.5))
        return torch.topk(values, count, dim=1).values.mean(1)

    def scaled_to(self, score: Tensor, anomaly_map: Tensor) -> Tensor:
        """A map ``(B, 1, *spatial)``, not negative, times a factor for each case, so that it pools to a score ``(B,)``.

        A map that pools to zero stays zero.
        """
        factor = score / self.forward(anomaly_map).clamp_min(1e-12)
        return anomaly_map * factor.reshape([-1] + [1] * (anomaly_map.dim() - 1))

    def shifted_to(self, score: Tensor, anomaly_map: Tensor) -> Tensor:
        """A map ``(B, 1, *spatial)`` of any sign plus an offset for each case, so that it pools to a score ``(B,)``."""
        offset = score - self.forward(anomaly_map)
        return anomaly_map + offset.reshape([-1] + [1] * (anomaly_map.dim() - 1))

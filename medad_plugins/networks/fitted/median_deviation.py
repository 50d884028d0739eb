"""Distance of feature vectors from the normal ones' median, value by value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["MedianDeviation"]


class MedianDeviation(OneClassHead):
    """Mean over the values of a vector of how far each lies from its median, in units of its median deviation.

    Half of the normal vectors may be wrong before medians follow them.

    Buffers:
        median, scale ``(D,)``: the scale is 1.4826 times the median absolute deviation, which is a Gaussian's standard
        deviation; values that hardly change are judged by the least of the others' scales.

    Reference:
        Rousseeuw and Croux, "Alternatives to the median absolute deviation", Journal of the American Statistical
        Association 1993; Huber, *Robust statistics*, 1981.
    """

    def __init__(self) -> None:
        super().__init__()
        self.median: Tensor = nn.Buffer(torch.empty(0))
        self.scale: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        x = vectors.double()
        median = torch.quantile(x, 0.5, dim=0)
        scale = 1.4826 * torch.quantile((x - median).abs(), 0.5, dim=0)
        changing = scale > 1e-6 * scale.amax().clamp_min(1e-12)
        floor = scale[changing].amin() if bool(changing.any()) else x.std(correction=0).clamp_min(1e-12)
        self.median, self.scale = median.float(), torch.where(changing, scale, floor).float()

    def forward(self, vectors: Tensor) -> Tensor:
        if self.median.numel() == 0:
            raise RuntimeError("the median has not been fitted.")
        return ((vectors.float() - self.median) / self.scale).abs().mean(1)

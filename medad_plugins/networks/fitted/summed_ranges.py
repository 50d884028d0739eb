"""Sum of a vector's values, each in units of the range it has over normal scans."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medad_plugins.networks.fitted.one_class_head import OneClassHead

__all__ = ["SummedRanges"]


class SummedRanges(OneClassHead):
    """Values of any unit, not negative and higher where a scan is more abnormal, added up on one scale.

    Buffers:
        unit ``(D,)``: highest less lowest value of the normal vectors; 1 where these are alike.

    Reference:
        Abati et al., "Latent space autoregression for novelty detection", CVPR 2019, whose score adds the lowest value
        besides, the same for every scan.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unit: Tensor = nn.Buffer(torch.empty(0))

    def fit(self, vectors: Tensor) -> None:
        x = vectors.double()
        spread = x.amax(0) - x.amin(0)
        self.unit = torch.where(spread > 1e-12, spread, 1.0).float()

    def forward(self, vectors: Tensor) -> Tensor:
        if self.unit.numel() == 0:
            raise RuntimeError("the ranges have not been fitted.")
        return (vectors.float() / self.unit).sum(1).clamp_min(0)

"""Of the residuals of many feature channels those that stand out, case by case."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Norm
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["RankedResiduals"]


class RankedResiduals(nn.Module):
    """The channels with the highest maximum and those with the highest mean, in descending order, for each case.

    All are compared on the finest grid after a batch norm, so that channels of different scales can be; what is
    returned is not normalised. What a place among the outputs means is its rank, not its channel.

    Args:
        channels: of the residuals, finest grid first.
        spatial_dims: 2 or 3.
        ranked: how many of each kind; all where there are no more.

    Shape:
        residuals ``(B, C_k, *grid_k)`` to ``(B, out_channels, *grid_0)``.

    Reference:
        Zhang et al., "RealNet", CVPR 2024, where it is called reconstruction residuals selection.
    """

    def __init__(self, channels: Sequence[int], spatial_dims: int, ranked: int) -> None:
        super().__init__()
        if ranked < 1:
            raise ValueError(f"ranked must be positive, got {ranked}.")
        self.ranked = min(ranked, sum(channels))
        self.out_channels = 2 * self.ranked
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.norm = Norm[Norm.BATCH, spatial_dims](sum(channels), affine=False, momentum=0.9)

    def forward(self, residuals: list[Tensor]) -> Tensor:
        grid = list(residuals[0].shape[2:])
        parts: list[Tensor] = []
        for index, residual in enumerate(residuals):
            # not in half precision, where autocast gives that: ranks would tie
            part = residual.float()
            if index > 0:
                part = functional.interpolate(part, grid, mode=self.mode, align_corners=False)
            parts.append(part)
        joined = torch.cat(parts, 1)
        compared = self.norm(joined).flatten(2)
        highest = torch.topk(compared.amax(2), self.ranked, dim=1).indices
        broadest = torch.topk(compared.mean(2), self.ranked, dim=1).indices
        values = joined.flatten(2)
        places = torch.cat([highest, broadest], 1).unsqueeze(2).expand(-1, -1, values.shape[2])
        return torch.gather(values, 1, places).reshape([-1, self.out_channels] + grid)

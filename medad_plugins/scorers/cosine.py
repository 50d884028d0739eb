"""Anomaly map from pairs of feature maps that should agree."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.scorers.pooling import MapPool

__all__ = ["CosineMapFusion"]


class CosineMapFusion(nn.Module):
    """One map from feature pairs: ``1 - cosine`` at every location, averaged over scales on the finest pair's grid.

    The fused map is interpolated to the image grid and then rescaled, per case, so that its pooled score is exactly
    that of the map before interpolation: papers score the feature grid, pictures want the image grid.

    Args:
        spatial_dims: 2 or 3.
        pool: the reduction whose value the interpolation must keep.

    Shape:
        two lists of ``(B, C_k, *grid_k)``, finest first, to ``(B, 1, *spatial)``, values 0..2, 0..1 for ReLU features.
    """

    def __init__(self, spatial_dims: int, pool: MapPool) -> None:
        super().__init__()
        self.mode = "bilinear" if spatial_dims == 2 else "trilinear"
        self.pool = pool

    def forward(self, decoded: list[Tensor], encoded: list[Tensor], size: list[int]) -> Tensor:
        grid = list(encoded[0].shape[2:])
        fused = torch.zeros([encoded[0].shape[0], 1] + grid, device=encoded[0].device)
        for reconstruction, feature in zip(decoded, encoded):
            # float32: a cosine near 1 loses the digits that matter in half precision
            distance = 1 - functional.cosine_similarity(reconstruction.float(), feature.float(), dim=1)
            fused = fused + functional.interpolate(distance.unsqueeze(1), grid, mode=self.mode, align_corners=False)
        fused = fused / len(encoded)
        resized = functional.interpolate(fused, size, mode=self.mode, align_corners=False)
        scale = self.pool(fused) / self.pool(resized).clamp_min(1e-12)
        return resized * scale.reshape([-1] + [1] * (resized.dim() - 1))

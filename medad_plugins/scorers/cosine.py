"""Anomaly map from pairs of feature maps that should agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.scorers.image_grid import MapToImage
from medad_plugins.scorers.pooling import MapPool

__all__ = ["CosineMapFusion"]

COMBINATIONS = ("mean", "sum", "product")


class CosineMapFusion(nn.Module):
    """One map from feature pairs: ``1 - cosine`` at every location of every scale, brought to one grid and combined.

    The defaults are those of encoder-decoder contrast: the mean over scales on the finest pair's grid, whose pooled
    score the image-sized map keeps exactly. Those of reverse distillation are ``combine="sum", on_image_grid=True,
    align_corners=True, sigma=4``.

    Args:
        spatial_dims: 2 or 3.
        pool: the reduction whose value is the score.
        combine: ``"mean"``, ``"sum"`` or ``"product"`` over the scales.
        on_image_grid: the scales meet, and are scored, on the image grid instead of the finest pair's.
        interpolation: ``"linear"`` or ``"nearest"``, of the scales to the grid where they meet.
        align_corners: of all linear interpolation.
        sigma: Gaussian smoothing of the map in pixels of the image; on the image grid the score is taken after it.
        scale_weights: how much each scale counts, finest first: factors in a mean or sum, exponents in a product; 0
            leaves one out. Of more pairs than weights they begin anew. None is 1 for all.
        keep_score: see `MapToImage`; None is ``"none"`` on the image grid and ``"scale"`` on the finest pair's.

    Shape:
        two lists of ``(B, C_k, *grid_k)``, finest first, and the image's size to ``(B, 1, *size)``, not negative; for
        ReLU features each scale is at most 1.
    """

    def __init__(
        self,
        spatial_dims: int,
        pool: MapPool,
        combine: str = "mean",
        on_image_grid: bool = False,
        interpolation: str = "linear",
        align_corners: bool = False,
        sigma: float = 0.0,
        keep_score: str | None = None,
        scale_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.scale_weights = [1.0] if scale_weights is None else [float(weight) for weight in scale_weights]
        if not self.scale_weights or min(self.scale_weights) < 0 or max(self.scale_weights) == 0:
            raise ValueError(
                f"scale_weights must not be negative and one of them positive, got {list(scale_weights or [])}."
            )
        if combine not in COMBINATIONS or interpolation not in ("linear", "nearest"):
            raise ValueError(
                f"combine must be one of {COMBINATIONS} and interpolation 'linear' or 'nearest', got {combine!r} and "
                f"{interpolation!r}."
            )
        self.linear = "bilinear" if spatial_dims == 2 else "trilinear"
        self.nearest = interpolation == "nearest"
        self.combine, self.on_image_grid, self.align_corners = combine, on_image_grid, align_corners
        if keep_score is None:
            keep_score = "none" if on_image_grid else "scale"
        self.to_image = MapToImage(spatial_dims, pool, sigma, align_corners=align_corners, keep_score=keep_score)

    def _resize(self, distance: Tensor, size: list[int]) -> Tensor:
        if self.nearest:
            return functional.interpolate(distance, size, mode="nearest")
        return functional.interpolate(distance, size, mode=self.linear, align_corners=self.align_corners)

    def fuse(
        self, decoded: list[Tensor], encoded: list[Tensor], grid: list[int], case_weights: Tensor | None = None
    ) -> Tensor:
        """The scales combined on a grid ``(B, 1, *grid)``, for methods that go on from there to `to_image`.

        Args:
            decoded, encoded: pairs of feature maps ``(B, C_k, *grid_k)``, finest first.
            grid: where they meet.
            case_weights: factors ``(B, K)`` of the scales besides, of each case its own.
        """
        start = 1.0 if self.combine == "product" else 0.0
        fused = torch.full([encoded[0].shape[0], 1] + grid, start, device=encoded[0].device)
        total = 0.0
        for index, (reconstruction, feature) in enumerate(zip(decoded, encoded)):
            weight = self.scale_weights[index % len(self.scale_weights)]
            if weight == 0.0:
                continue
            total += weight
            # float32: a cosine near 1 loses the digits that matter in half precision
            distance = 1 - functional.cosine_similarity(reconstruction.float(), feature.float(), dim=1)
            resized = self._resize(distance.unsqueeze(1), grid)
            if case_weights is not None:
                resized = resized * case_weights[:, index].reshape([-1] + [1] * (resized.dim() - 1))
            if self.combine == "product":
                fused = fused * (resized if weight == 1.0 else resized.clamp_min(0) ** weight)
            else:
                fused = fused + (resized if weight == 1.0 else weight * resized)
        if self.combine == "mean":
            fused = fused / total
        return fused

    def forward(
        self, decoded: list[Tensor], encoded: list[Tensor], size: list[int], case_weights: Tensor | None = None
    ) -> Tensor:
        grid = list(size) if self.on_image_grid else list(encoded[0].shape[2:])
        return self.to_image(self.fuse(decoded, encoded, grid, case_weights), size)

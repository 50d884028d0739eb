"""From the feature grid to the image grid, with the score where the paper takes it."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medad_plugins.scorers import MapPool, MapToImage

GRIDS = {2: (5, 4), 3: (4, 3, 5)}
SIZES = {2: [23, 17], 3: [9, 13, 11]}


def _map(spatial_dims: int, offset: float = 0.0) -> Tensor:
    return torch.rand(2, 1, *GRIDS[spatial_dims], generator=torch.Generator().manual_seed(3)) + offset


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("align_corners", [False, True])
def test_without_a_kept_score_it_is_interpolation_then_smoothing(spatial_dims: int, align_corners: bool) -> None:
    grid_map, size = _map(spatial_dims), SIZES[spatial_dims]
    to_image = MapToImage(spatial_dims, MapPool("max"), 1.5, align_corners, keep_score="none")
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    resized = functional.interpolate(grid_map, size, mode=mode, align_corners=align_corners)
    for case, found in zip(resized, to_image(grid_map, size), strict=True):
        expected = torch.from_numpy(gaussian_filter(case[0].numpy(), 1.5, mode="nearest"))
        torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("reduction", ["max", "mean", 0.2])
@pytest.mark.parametrize(("keep_score", "offset"), [("scale", 0.0), ("shift", 0.0), ("shift", -0.8)])
def test_kept_score_is_that_of_the_feature_grid(
    spatial_dims: int, reduction: str | float, keep_score: str, offset: float
) -> None:
    pool, grid_map, size = MapPool(reduction), _map(spatial_dims, offset), SIZES[spatial_dims]
    found = MapToImage(spatial_dims, pool, 2.0, keep_score=keep_score)(grid_map, size)
    torch.testing.assert_close(pool(found), pool(grid_map), rtol=1e-5, atol=1e-6)
    plain = MapToImage(spatial_dims, pool, 2.0, keep_score="none")(grid_map, size)
    changed = found - plain if keep_score == "shift" else found / plain
    for case in changed:  # one number for all of a case, so order and shape stay
        torch.testing.assert_close(case, torch.full_like(case, float(case.flatten()[0])), rtol=1e-3, atol=1e-5)


def test_unknown_way_to_keep_the_score_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_score"):
        MapToImage(2, MapPool("max"), keep_score="clip")

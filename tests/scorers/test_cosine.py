"""Maps from feature pairs, by loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from medad_plugins.scorers import CosineMapFusion, MapPool

GRIDS: dict[int, list[tuple[int, ...]]] = {2: [(6, 5), (3, 3), (2, 1)], 3: [(6, 5, 4), (3, 3, 2), (2, 1, 1)]}
SIZES = {2: [23, 19], 3: [12, 10, 7]}


def _features(spatial_dims: int, seed: int, positive: bool = True) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(2, 3 + k, *grid, generator=generator) for k, grid in enumerate(GRIDS[spatial_dims])]
    return [m.relu() + 0.01 if positive else m for m in maps]


def _by_loops(decoded: list[Tensor], encoded: list[Tensor]) -> Tensor:
    """Mean over scales of ``1 - cosine`` at every location, on the finest grid."""
    grid = list(encoded[0].shape[2:])
    maps = []
    for d, e in zip(decoded, encoded, strict=True):
        distance = np.zeros((d.shape[0], 1, *d.shape[2:]), dtype=np.float32)
        for place in np.ndindex(*distance.shape[:1], *distance.shape[2:]):
            case, where = place[0], place[1:]
            a, b = (t[(case, slice(None), *where)].double().numpy() for t in (d, e))
            distance[(case, 0, *where)] = 1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
        mode = "bilinear" if len(grid) == 2 else "trilinear"
        maps.append(functional.interpolate(torch.from_numpy(distance), grid, mode=mode, align_corners=False))
    return torch.stack(maps).mean(0)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
def test_map_is_the_fused_one_enlarged_and_keeps_its_score(spatial_dims: int, reduction: str | float) -> None:
    decoded, encoded = _features(spatial_dims, 0), _features(spatial_dims, 1)
    pool = MapPool(reduction)
    anomaly_map = CosineMapFusion(spatial_dims, pool)(decoded, encoded, SIZES[spatial_dims])
    fine = _by_loops(decoded, encoded)
    assert anomaly_map.shape == (2, 1, *SIZES[spatial_dims])
    torch.testing.assert_close(pool(anomaly_map), pool(fine), rtol=1e-5, atol=1e-6)
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    large = functional.interpolate(fine, SIZES[spatial_dims], mode=mode, align_corners=False)
    for case in range(2):
        ratio = anomaly_map[case] / large[case]
        torch.testing.assert_close(ratio, torch.full_like(ratio, float(pool(fine)[case] / pool(large)[case])))


def test_on_the_feature_grid_it_is_the_fused_map_itself() -> None:
    decoded, encoded = _features(2, 0), _features(2, 1)
    anomaly_map = CosineMapFusion(2, MapPool("max"))(decoded, encoded, [6, 5])
    torch.testing.assert_close(anomaly_map, _by_loops(decoded, encoded), rtol=1e-5, atol=1e-6)


def test_equal_features_are_normal_opposite_ones_are_2() -> None:
    features, fusion = _features(2, 0, positive=False), CosineMapFusion(2, MapPool("max"))
    assert float(fusion(features, [3 * f for f in features], [8, 8]).abs().max()) < 1e-5
    opposite = fusion(features, [-f for f in features], [8, 8])
    torch.testing.assert_close(opposite, torch.full_like(opposite, 2.0))


def test_half_precision_features_are_compared_in_float32() -> None:
    decoded, encoded = _features(2, 0), _features(2, 1)
    halves = [[f.bfloat16() for f in features] for features in (decoded, encoded)]
    anomaly_map = CosineMapFusion(2, MapPool("max"))(*halves, [6, 5])
    assert anomaly_map.dtype == torch.float32
    expected = _by_loops(*[[f.float() for f in features] for features in halves])
    torch.testing.assert_close(anomaly_map, expected, rtol=1e-4, atol=1e-6)


def test_scripted_it_gives_the_same_map() -> None:
    fusion = CosineMapFusion(3, MapPool(0.1))
    arguments = (_features(3, 0), _features(3, 1), SIZES[3])
    torch.testing.assert_close(torch.jit.script(fusion)(*arguments), fusion(*arguments))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("combine", ["mean", "sum", "product"])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_on_the_image_grid_the_scales_meet_there_and_are_scored_there(
    spatial_dims: int, combine: str, sigma: float
) -> None:
    decoded, encoded, size = _features(spatial_dims, 0), _features(spatial_dims, 1), SIZES[spatial_dims]
    fusion = CosineMapFusion(spatial_dims, MapPool("max"), combine, on_image_grid=True, align_corners=True, sigma=sigma)
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    scales = torch.stack(
        [
            functional.interpolate(1 - (d * e).sum(1, True) / (d.norm(dim=1) * e.norm(dim=1)).unsqueeze(1), size,
                                   mode=mode, align_corners=True)
            for d, e in zip(decoded, encoded, strict=True)
        ]
    )  # fmt: skip
    expected = {"mean": scales.mean(0), "sum": scales.sum(0), "product": scales.prod(0)}[combine].numpy()
    if sigma:
        expected = np.stack([gaussian_filter(case[0], sigma, mode="nearest")[None] for case in expected])
    torch.testing.assert_close(fusion(decoded, encoded, size), torch.from_numpy(expected), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("combine", ["mean", "sum", "product"])
@pytest.mark.parametrize("weights", [[0.0, 1.0, 2.0], [0.5, 1.0, 0.0], [1.0, 1.0, 1.0]])
def test_scales_count_by_their_weights(combine: str, weights: list[float]) -> None:
    # two directions of three scales each: the weights begin anew
    decoded, encoded = _features(2, 0) + _features(2, 2), _features(2, 1) + _features(2, 3)
    fusion = CosineMapFusion(2, MapPool("max"), combine, on_image_grid=True, scale_weights=weights)
    maps = [
        functional.interpolate(1 - functional.cosine_similarity(d, e)[:, None], SIZES[2], mode="bilinear").double()
        for d, e in zip(decoded, encoded, strict=True)
    ]
    sums = sum(w * m for w, m in zip(weights * 2, maps, strict=True))
    products = torch.stack([m**w for w, m in zip(weights * 2, maps, strict=True)]).prod(0)
    expected = {"mean": sums / (2 * sum(weights)), "sum": sums, "product": products}[combine]
    found = fusion(decoded, encoded, SIZES[2])
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(fusion)(decoded, encoded, SIZES[2]), found)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0]])
def test_weights_that_leave_no_scale(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="scale_weights must not be negative and one of them positive"):
        CosineMapFusion(2, MapPool("max"), scale_weights=weights)


def test_nearest_scales_are_blocks() -> None:
    encoded = [torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 2)]
    turned = torch.ones(1, 2, 2, 2)
    turned[0, 1, 0, 1] = -1  # at a right angle in one cell of the coarse scale
    fusion = CosineMapFusion(2, MapPool("max"), combine="sum", interpolation="nearest")
    found = fusion([encoded[0], turned], encoded, [4, 4])
    expected = torch.zeros(1, 1, 4, 4)
    expected[..., :2, 2:] = 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"combine": "max"}, {"interpolation": "cubic"}])
def test_unknown_options_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong.values()))):
        CosineMapFusion(2, MapPool("max"), **wrong)  # type: ignore[arg-type]

"""Smoothing is SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medad_plugins.scorers import GaussianSmoothing


@pytest.mark.parametrize("size", [(17, 12), (9, 6, 12)])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 0.6, 1.0, 128 / 56, 4.0])
def test_equals_scipy_with_repeated_borders(size: tuple[int, ...], sigma: float) -> None:
    anomaly_map = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    smoothed = GaussianSmoothing(len(size), sigma)(anomaly_map)
    assert smoothed.shape == anomaly_map.shape
    for case in range(2):
        expected = gaussian_filter(anomaly_map[case, 0].double().numpy(), sigma, mode="nearest")
        np.testing.assert_allclose(smoothed[case, 0].numpy(), expected, atol=2e-6)


def test_axes_are_smoothed_alike() -> None:
    point = torch.zeros(1, 1, 9, 9, 9)
    point[0, 0, 4, 4, 4] = 1
    smoothed = GaussianSmoothing(3, 1.0)(point)
    for axes in ((0, 2, 1), (2, 1, 0)):
        torch.testing.assert_close(smoothed, smoothed.permute(0, 1, *(axis + 2 for axis in axes)))
    assert float(smoothed.sum()) == pytest.approx(1, abs=1e-3)


def test_a_constant_map_stays_what_it_is_up_to_its_rim() -> None:
    constant = torch.full((1, 1, 6, 7), 0.7)
    torch.testing.assert_close(GaussianSmoothing(2, 4.0)(constant), constant)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_scripted_it_gives_the_same_map(spatial_dims: int) -> None:
    smoothing, anomaly_map = GaussianSmoothing(spatial_dims, 1.0), torch.rand(2, 1, *[6, 7, 8][:spatial_dims])
    torch.testing.assert_close(torch.jit.script(smoothing)(anomaly_map), smoothing(anomaly_map))


def test_it_is_no_part_of_the_state() -> None:
    assert GaussianSmoothing(2, 4.0).state_dict() == {}


def test_negative_sigma() -> None:
    with pytest.raises(ValueError, match="sigma must not be negative, got -1"):
        GaussianSmoothing(2, -1)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_maps_stay_float32_where_the_network_computes_in_half_precision(spatial_dims: int) -> None:
    values = torch.rand(2, 1, *[9] * spatial_dims)
    smoothing = GaussianSmoothing(spatial_dims, 1.0)
    with torch.autocast("cpu", torch.bfloat16):
        smoothed = smoothing(values)
    assert smoothed.dtype == torch.float32
    torch.testing.assert_close(smoothed, smoothing(values), rtol=1e-6, atol=1e-7)

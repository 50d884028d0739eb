"""Edges compared at several scales, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from medad_plugins.scorers import EdgeDissimilarity


def _pair(*size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 2, *size, generator=generator)
    return (image + 0.2 * torch.randn(image.shape, generator=generator)).clamp(0, 1), image


def _by_scipy(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    slopes = []
    for values in (one, other):
        smooth = ndimage.median_filter(values, 3, mode="nearest")
        parts = []
        for axis in range(values.ndim):
            part = smooth
            for each in range(values.ndim):
                weights = [-1, 0, 1] if each == axis else [1 / 3] * 3
                part = ndimage.correlate1d(part, weights, each, mode="nearest")
            parts.append(part)
        slopes.append(np.sqrt(sum(part**2 for part in parts)))
    return 1 - (2 * slopes[0] * slopes[1] + 0.0026) / (slopes[0] ** 2 + slopes[1] ** 2 + 0.0026)


@pytest.mark.parametrize("size", [(24, 20), (12, 14, 16)])
def test_map_is_that_of_scipy_at_every_scale(size: tuple[int, ...]) -> None:
    reconstruction, image = (values.double() for values in _pair(*size))
    dims, pool = len(size), functional.avg_pool2d if len(size) == 2 else functional.avg_pool3d
    found = EdgeDissimilarity(dims, 3)(reconstruction, image)
    assert found.shape == (2, 1, *size)
    expected, one, other = [], reconstruction.mean(1, keepdim=True), image.mean(1, keepdim=True)
    for _ in range(3):
        cases = [_by_scipy(a[0].numpy(), b[0].numpy()) for a, b in zip(one, other, strict=True)]
        scale = torch.from_numpy(np.stack(cases))[:, None]
        expected.append(functional.interpolate(scale, size, mode="bilinear" if dims == 2 else "trilinear"))
        if min(one.shape[2:]) < 6:
            break
        one, other = pool(one, 2), pool(other, 2)
    torch.testing.assert_close(found, torch.stack(expected).mean(0), rtol=1e-5, atol=1e-5)


def test_equal_edges_count_for_nothing_whatever_the_brightness() -> None:
    _, image = _pair(16, 16)
    assert float(EdgeDissimilarity(2)(image * 0.5 + 0.2, image * 0.5).max()) < 1e-5
    flat = torch.full_like(image, 0.5)
    assert float(EdgeDissimilarity(2)(flat, flat).max()) == 0
    assert float(EdgeDissimilarity(2)(flat, image).mean()) > 0.3


def test_scripted_it_is_the_same() -> None:
    pair = _pair(16, 20)
    module = EdgeDissimilarity(2)
    torch.testing.assert_close(torch.jit.script(module)(*pair), module(*pair))
    with pytest.raises(ValueError, match="scales must be positive"):
        EdgeDissimilarity(2, 0)

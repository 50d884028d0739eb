"""Maxima in windows as SciPy's, to the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medad_plugins.scorers import closed, dilated


@pytest.mark.parametrize("size", [(11, 14), (7, 9, 8)])
def test_as_scipy_has_them(size: tuple[int, ...]) -> None:
    values = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) - 0.5
    window = [3] * len(size)
    for case, wide, filled in zip(values[:, 0].numpy(), dilated(values, 3), closed(values, 3), strict=True):
        np.testing.assert_array_equal(wide[0], ndimage.grey_dilation(case, window, mode="nearest"))
        np.testing.assert_array_equal(filled[0], ndimage.grey_closing(case, window, mode="nearest"))

"""The median filter against SciPy's."""

from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from medad_plugins.scorers import MedianSmoothing


@pytest.mark.parametrize(("size", "window"), [((9, 7), 5), ((9, 7), 3), ((6, 5, 7), 3), ((4, 4), 1)])
def test_as_scipy_with_repeated_borders(size: tuple[int, ...], window: int) -> None:
    values = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    smooth = MedianSmoothing(len(size), window)
    for found, one in zip(smooth(values), values, strict=True):
        expected = ndimage.median_filter(one[0].numpy(), window, mode="nearest")
        assert torch.equal(found[0], torch.from_numpy(expected))
    assert torch.equal(torch.jit.script(smooth)(values), smooth(values))


def test_even_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="odd"):
        MedianSmoothing(2, 4)

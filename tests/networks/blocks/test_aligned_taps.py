"""Feature maps on one grid: interpolation, and the scale of the channels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medad_plugins.networks.blocks.aligned_taps import AlignedTaps


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_maps_meet_on_the_coarsest_grid(spatial_dims: int) -> None:
    taps = [torch.rand((2, 3) + (8,) * spatial_dims), torch.rand((2, 5) + (4,) * spatial_dims)]
    align = AlignedTaps([3, 5], spatial_dims)
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    smaller = functional.interpolate(taps[0], taps[1].shape[2:], mode=mode, align_corners=True)
    torch.testing.assert_close(align(taps), torch.cat([smaller, taps[1]], 1))
    assert align.out_channels == 8


def test_standard_channels_have_mean_0_and_deviation_1() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(4, 2, 6, 6) * torch.tensor([3.0, 0.2])[:, None, None] + 5 for _ in range(8)]
    align = AlignedTaps([2], scaling="standard").train()
    for batch in batches:
        scaled = align([batch])
        torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-4)
        torch.testing.assert_close(scaled.std((0, 2, 3), correction=0), torch.ones(2), rtol=1e-3, atol=0)
    assert not list(align.parameters())
    # later it is the mean of the batches, each as often as the others
    seen = torch.stack(batches)
    mean = seen.mean((1, 3, 4)).mean(0)[:, None, None]
    variance = seen.transpose(1, 2).flatten(2).var(2).mean(0)[:, None, None]
    expected = (batches[0] - mean) / (variance + 1e-5).sqrt()
    torch.testing.assert_close(align.eval()([batches[0]]), expected, rtol=1e-4, atol=1e-4)


def test_unknown_scaling() -> None:
    with pytest.raises(ValueError, match="scaling must be one of"):
        AlignedTaps([2], scaling="unit")

"""Scores of windows on maps that stay sharp."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.scorers import LocalMeanScore, MapPool

SIZES: dict[int, tuple[int, ...]] = {2: (11, 8), 3: (7, 9, 6)}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize(("window", "padded"), [(3, True), (4, False), (1, True)])
@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
def test_the_pooled_map_is_that_of_the_window_means(
    spatial_dims: int, window: int, padded: bool, reduction: str | float
) -> None:
    maps = torch.rand(2, 1, *SIZES[spatial_dims], generator=torch.Generator().manual_seed(0))
    pool = MapPool(reduction)
    scaled = LocalMeanScore(spatial_dims, pool, window, padded)(maps)
    for case, values in enumerate(maps[:, 0].numpy()):
        source = np.pad(values, window // 2) if padded else values
        means = [
            source[tuple(slice(p, p + window) for p in place)].mean()
            for place in np.ndindex(*(edge - window + 1 for edge in source.shape))
        ]
        expected = pool(torch.tensor(np.array(means)).reshape(1, 1, -1))
        assert float(pool(scaled)[case]) == pytest.approx(float(expected), rel=1e-5)
    ratio = (scaled / maps).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))


def test_a_window_larger_than_the_map_takes_all_of_it() -> None:
    maps = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    scaled = LocalMeanScore(2, MapPool("max"), 16, padded=False)(maps)
    assert float(scaled.max()) == pytest.approx(float(maps.mean()))


def test_an_empty_map_stays_empty() -> None:
    assert torch.equal(
        LocalMeanScore(2, MapPool("max"), 3, padded=True)(torch.zeros(2, 1, 8, 8)), torch.zeros(2, 1, 8, 8)
    )


def test_a_window_must_be_positive() -> None:
    with pytest.raises(ValueError, match="window must be positive, got 0"):
        LocalMeanScore(2, MapPool("max"), 0, padded=True)

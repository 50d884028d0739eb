"""Map to score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medad_plugins.scorers import MapPool


def _expected(values: np.ndarray, reduction: str | float) -> float:
    highest_first = np.sort(values.ravel())[::-1]
    if reduction == "max":
        return float(highest_first[0])
    if reduction == "mean":
        return float(highest_first.mean())
    return float(highest_first[: max(1, round(float(reduction) * values.size))].mean())


@pytest.mark.parametrize("shape", [(3, 1, 7, 9), (2, 1, 4, 5, 6)])
@pytest.mark.parametrize("reduction", ["max", "mean", 0.05, 0.5, 0.999, 1e-6])
def test_scores(shape: tuple[int, ...], reduction: str | float) -> None:
    anomaly_map = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    scores = MapPool(reduction)(anomaly_map)
    assert scores.shape == shape[:1]
    expected = [_expected(case.numpy(), reduction) for case in anomaly_map]
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_fraction_takes_the_nearest_number_of_values() -> None:
    values = torch.arange(10.0).reshape(1, 1, 2, 5)
    assert float(MapPool(0.24)(values)) == 8.5
    assert float(MapPool(0.26)(values)) == 8.0


@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
def test_a_multiple_of_the_map_has_that_multiple_of_the_score(reduction: str | float) -> None:
    anomaly_map, pool = torch.rand(2, 1, 6, 6), MapPool(reduction)
    torch.testing.assert_close(pool(3 * anomaly_map), 3 * pool(anomaly_map))


@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
def test_scripted_it_gives_the_same_score(reduction: str | float) -> None:
    anomaly_map, pool = torch.rand(2, 1, 6, 6), MapPool(reduction)
    assert torch.equal(torch.jit.script(pool)(anomaly_map), pool(anomaly_map))


@pytest.mark.parametrize("reduction", ["median", 0, 1, 1.5, -0.1, True, float("nan")])
def test_unknown_reductions(reduction: str | float) -> None:
    with pytest.raises(ValueError, match="reduction must be 'max', 'mean' or a fraction between 0 and 1, got"):
        MapPool(reduction)

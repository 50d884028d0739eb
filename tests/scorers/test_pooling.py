"""Map to score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

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


class _Moved(nn.Module):
    """A map brought to scores by a factor and by an offset."""

    def __init__(self, reduction: str | float) -> None:
        super().__init__()
        self.pool = MapPool(reduction)

    def forward(self, score: Tensor, anomaly_map: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool.scaled_to(score, anomaly_map), self.pool.shifted_to(score, anomaly_map)


@pytest.mark.parametrize("reduction", ["max", "mean", 0.1])
@pytest.mark.parametrize("size", [(6, 5), (4, 3, 5)])
def test_a_map_is_brought_to_a_score_by_one_factor_or_one_offset_a_case(
    size: tuple[int, ...], reduction: str | float
) -> None:
    anomaly_map, score, pool = torch.rand(3, 1, *size), torch.tensor([2.0, 0.5, 0.0]), MapPool(reduction)
    for moved in (_Moved(reduction), torch.jit.script(_Moved(reduction))):
        scaled, shifted = moved(score, anomaly_map)
        torch.testing.assert_close(pool(scaled), score)
        torch.testing.assert_close(pool(shifted), score)
        for case in range(3):
            torch.testing.assert_close(scaled[case], anomaly_map[case] * (score[case] / pool(anomaly_map)[case]))
            offset = score[case] - pool(anomaly_map)[case]
            torch.testing.assert_close(shifted[case], anomaly_map[case] + offset)
    nothing = torch.zeros(1, 1, *size)
    assert torch.equal(pool.scaled_to(torch.ones(1), nothing), nothing)


@pytest.mark.parametrize("reduction", ["median", 0, 1, 1.5, -0.1, True, float("nan")])
def test_unknown_reductions(reduction: str | float) -> None:
    with pytest.raises(ValueError, match="reduction must be 'max', 'mean' or a fraction between 0 and 1, got"):
        MapPool(reduction)

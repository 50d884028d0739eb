"""Scores in standard deviations of normal ones."""

from __future__ import annotations

import statistics

import pytest
import torch

from medad_plugins.errors import InputError
from medad_plugins.scorers import StandardScore


def test_batches_are_fitted_as_one_list() -> None:
    scores = [3.0, 4.5, -1.0, 2.0, 2.5]
    module = StandardScore()
    assert module(torch.tensor([7.0])).tolist() == [7.0], "before it is fitted it changes nothing"
    module.collect(torch.tensor(scores[:2]))
    module.collect(torch.tensor(scores[2:]))
    module.fit()
    mean, deviation = statistics.fmean(scores), statistics.pstdev(scores)
    expected = torch.tensor([(7.0 - mean) / deviation])
    torch.testing.assert_close(module(torch.tensor([7.0])), expected)
    # again, from the beginning
    module.collect(torch.tensor([0.0, 2.0]))
    module.fit()
    assert float(module.mean) == 1.0 and float(module.deviation) == 1.0


@pytest.mark.parametrize("scores", [[], [1.0]])
def test_too_few_are_refused(scores: list[float]) -> None:
    module = StandardScore()
    module.collect(torch.tensor(scores))
    with pytest.raises(InputError, match="at least two normal scans"):
        module.fit()


def test_equal_ones_are_refused() -> None:
    module = StandardScore()
    module.collect(torch.full((7,), 0.1))
    with pytest.raises(InputError, match="the same score"):
        module.fit()

"""Values of any unit added up on one scale."""

from __future__ import annotations

import numpy as np
import torch

from medad_plugins.networks.fitted.summed_ranges import SummedRanges


def test_it_orders_scans_as_the_sum_of_both_scaled_to_normal_extremes() -> None:
    random = np.random.default_rng(0)
    normal, others = random.gamma(3, [1.0, 1000.0], (30, 2)), random.gamma(4, [2.0, 1500.0], (20, 2))
    head = SummedRanges()
    head.fit(torch.from_numpy(normal).float())
    low, high = normal.min(0), normal.max(0)
    papers = ((others - low) / (high - low)).sum(1)
    found = head(torch.from_numpy(others).float()).numpy()
    np.testing.assert_allclose(found - papers, (low / (high - low)).sum(), rtol=1e-4)


def test_what_never_changes_has_a_unit() -> None:
    head = SummedRanges()
    head.fit(torch.tensor([[1.0, 2.0], [1.0, 4.0]]))
    assert torch.equal(head.unit, torch.tensor([1.0, 2.0]))

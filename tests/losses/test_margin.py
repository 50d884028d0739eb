"""Two-sided margin loss against its formula."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.losses import TwoSidedMarginLoss

NORMAL, OTHER = [0.9, 0.5, 0.2, -0.3], [-0.7, 0.1]


@pytest.mark.parametrize(("margin", "expected"), [(0.5, (0.3 + 0.8) / 4 + 0.6 / 2), (0.0, 0.3 / 4 + 0.1 / 2)])
def test_is_the_mean_of_what_lies_within_the_margin(margin: float, expected: float) -> None:
    loss = TwoSidedMarginLoss(margin)((torch.tensor(NORMAL), torch.tensor(OTHER)))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_what_lies_beyond_the_margin_teaches_nothing() -> None:
    normal, other = torch.tensor(NORMAL, requires_grad=True), torch.tensor(OTHER, requires_grad=True)
    TwoSidedMarginLoss()((normal, other)).backward()
    assert normal.grad is not None and other.grad is not None
    assert normal.grad.tolist() == pytest.approx([0, 0, -0.25, -0.25])
    assert other.grad.tolist() == pytest.approx([0, 0.5])

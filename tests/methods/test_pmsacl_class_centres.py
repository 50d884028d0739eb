"""Centres that follow their classes."""

from __future__ import annotations

import pytest
import torch

from medad_plugins.methods.pmsacl import ClassCentres

VECTORS = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]])
CLASSES = torch.tensor([0, 0, 2])


def test_centres_follow_slowly_and_start_where_the_first_are() -> None:
    centres = ClassCentres(3, 2, decay=0.9)
    centres.follow(VECTORS, CLASSES)
    assert centres.centres.tolist() == [[2, 0], [0, 0], [0, 2]]
    centres.follow(torch.tensor([[12.0, 0.0]]), torch.tensor([0]))
    torch.testing.assert_close(centres.centres[0], torch.tensor([3.0, 0.0]))
    assert centres.centres[2].tolist() == [0, 2], "a class that is not there stays"


def test_spread_adds_up_the_means_of_the_classes() -> None:
    centres = ClassCentres(3, 2)
    centres.follow(VECTORS, CLASSES)
    vectors = torch.tensor([[2.0, 1.0], [2.0, 3.0], [4.0, 2.0]], requires_grad=True)
    spread = centres.spread(vectors, CLASSES)
    assert float(spread) == pytest.approx((1 + 9) / 2 + 16)
    spread.backward()
    assert vectors.grad is not None
    torch.testing.assert_close(vectors.grad, torch.tensor([[0.0, 1.0], [0.0, 3.0], [8.0, 0.0]]))


def test_a_decay_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="decay"):
        ClassCentres(2, 2, 1.0)

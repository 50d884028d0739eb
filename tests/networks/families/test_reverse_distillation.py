"""What reverse distillations share; their figures are tested with the methods."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from medad_plugins.networks import ReverseDistillation


class Perfect(ReverseDistillation):
    """Its student gives what the teacher does."""

    def rebuild(self, taps: list[Tensor]) -> list[Tensor]:
        return taps


@torch.no_grad()
def test_a_perfect_student_leaves_an_empty_map() -> None:
    network, scan = Perfect(backbone="resnet10", weights="none").eval(), torch.rand(2, 1, 32, 48)
    torch.testing.assert_close(network(scan), torch.zeros(2, 1, 32, 48), rtol=0, atol=1e-5)


def test_only_the_student_learns() -> None:
    network = Perfect(backbone="resnet10", weights="none")
    assert {id(p) for p in network.student_parameters()} == {id(p) for p in network.student.parameters()}


def test_a_subclass_writes_what_the_student_is_given() -> None:
    with pytest.raises(TypeError, match="ReverseDistillation does not say what its student is given"):
        ReverseDistillation(backbone="resnet10", weights="none").train()(torch.rand(2, 1, 32, 32))

"""Schedules in iterations, and batches whose target is the scan."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from medad_plugins.engines import epoch_length, image_as_target


@pytest.mark.parametrize("longest", [1, 7, 50])
def test_epoch_length_is_the_largest_divisor(longest: int) -> None:
    for iterations in (1, 2, 49, 50, 51, 97, 100, 600, 4000, 4001):
        divisors = [n for n in range(1, iterations + 1) if iterations % n == 0]
        assert epoch_length(iterations, longest) == max(n for n in divisors if n <= longest)


def test_epoch_length_of_the_papers_schedules() -> None:
    assert [epoch_length(n) for n in (100, 500, 1000, 4000, 6000)] == [50] * 5


@pytest.mark.parametrize("iterations", [0, -3])
def test_no_iteration(iterations: int) -> None:
    with pytest.raises(ValueError, match=f"max_iterations must be at least 1, got {iterations}"):
        epoch_length(iterations)


@pytest.mark.parametrize("kind", [torch.Tensor, MetaTensor])
def test_the_scan_is_input_and_target(kind: type[Tensor]) -> None:
    scan = torch.rand(2, 1, 4, 4)
    image, target = image_as_target({"image": kind(scan), "label": torch.zeros(2)}, torch.device("cpu"), True)
    assert image is target and type(image) is Tensor and torch.equal(image, scan)

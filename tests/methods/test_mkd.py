"""MKD by its paper: the narrow student, value and direction in the loss, the map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_trainings import alike_scans, standing_out, train_for_seconds, weights_of_varied_taps
from torch import Tensor, nn
from torch.nn import functional

from medad_plugins.methods.mkd import MKD, Cloner, ValueDirectionLoss


def _mkd(spatial_dims: int = 2, **others: Any) -> MKD:
    torch.manual_seed(0)
    return MKD(spatial_dims, 1, "resnet10", "none", width=4, **others)


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


def test_only_the_last_convolution_of_a_block_is_as_wide_as_the_teacher() -> None:
    cloner = Cloner(2, 1, [64, 128, 256], [4, 8, 16])
    for layers, channels, count in zip(cloner.blocks, (64, 128, 256), (4, 3, 3), strict=True):
        block = list(layers.children())
        convolutions = [layer for layer in block if isinstance(layer, nn.Conv2d)]
        assert [layer.out_channels for layer in convolutions] == [16] * (count - 1) + [channels]
        assert isinstance(block[-1], nn.MaxPool2d) and isinstance(block[-2], nn.Conv2d), "no norm before a pooling"
    with pytest.raises(ValueError, match="powers of two"):
        Cloner(2, 1, [8, 8], [4, 4])


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (32, 36, 33)])
def test_student_and_teacher_have_the_same_grids(size: tuple[int, ...]) -> None:
    network = _mkd(len(size)).eval()
    with torch.no_grad():
        student, teacher = network.student(_scan(*size)), network.teacher(_scan(*size))
        assert network(_scan(*size)).shape == (2, 1, *size)
    assert [tap.shape for tap in student] == [tap.shape for tap in teacher]


def test_loss_by_plain_computation() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = ([torch.randn(3, 4, 5, 5, generator=generator) for _ in range(2)] for _ in "ab")
    expected = 0.0
    for one, other in zip(student, teacher, strict=True):
        a, b = one.flatten(1).double().numpy(), other.flatten(1).double().numpy()
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        expected += (1 - cosine).mean() + 0.3 * ((a - b) ** 2).mean()
    assert float(ValueDirectionLoss(0.3)((student, teacher))) == pytest.approx(expected, rel=1e-5)


def test_map_is_the_sum_of_distances_on_the_image_grid() -> None:
    network, image = _mkd(sigma=0.0).eval(), _scan(64, 60)
    with torch.no_grad():
        found, expected = network(image), torch.zeros(2, 1, 64, 60)
        for one, other in zip(network.student(image), network.teacher(image), strict=True):
            distance = 1 - functional.cosine_similarity(one, other, dim=1)[:, None]
            expected += functional.interpolate(distance, (64, 60), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.costly
def test_it_learns_normal_features(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network = MKD(2, 1, "resnet10", path, width=8, sigma=1.0)
    normal = alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = 1 - changed[:, :, 8:30, 34:56]

    before = standing_out(network, changed, normal[8:])
    train_for_seconds(network, network.student.parameters(), ValueDirectionLoss(), normal[:8], 3e-3)
    after = standing_out(network, changed, normal[8:])
    assert after > max(1.2, 1.2 * before), (before, after)
    assert not network.teacher.training and all(p.grad is None for p in network.teacher.parameters())


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _mkd().eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-6)

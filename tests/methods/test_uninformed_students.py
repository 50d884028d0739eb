"""Uninformed Students by the paper: error and disagreement, each in deviations of normal places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from short_trainings import alike_scans, train_for_seconds, weights_of_varied_taps
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import ResidualLoss
from medad_plugins.methods.uninformed_students import UninformedStudents


def _network(spatial_dims: int = 2, **others: Any) -> UninformedStudents:
    torch.manual_seed(0)
    return UninformedStudents(spatial_dims, 1, "resnet10", "none", widths=(4, 8), **others)


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(64, 50), (32, 36, 33)])
def test_map_by_plain_computation(size: tuple[int, ...]) -> None:
    network, image, normal = _network(len(size)).eval(), _scan(*size), _scan(*size).flip(-1)
    with torch.no_grad():
        network.collect(normal[:1])
        network.collect(normal[1:])
        network.fit()
        found = network(image)
        parts = []
        for scans in (normal, image):
            said = np.stack([student(scans * 2 - 1).numpy() for student in network.students])
            teacher = network.align(network.features(scans)).numpy()
            mean = said.mean(0)
            error = ((mean - teacher) ** 2).sum(1)
            parts.append((error, (said**2).mean(0).sum(1) - (mean**2).sum(1)))
    values = sum((of - normal.mean()) / normal.std() for normal, of in zip(*parts, strict=True))
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = functional.interpolate(torch.from_numpy(values)[:, None], size, mode=mode, align_corners=False)
    torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3)


def test_every_student_learns_and_the_teacher_does_not() -> None:
    network = _network()
    network.train()
    said, features = network(_scan(64, 64))
    assert said.shape == features.shape == (6, 64 + 128 + 256, 16, 16)
    loss = ResidualLoss("l2")((said, features))
    torch.testing.assert_close(loss, (said - features).square().mean())
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.students.parameters())
    assert len(network.learning_parameters()) == len(list(network.students.parameters()))
    assert not network.features.training
    with pytest.raises(ValueError, match="two students"):
        _network(students=1)


@pytest.mark.costly
def test_it_learns_normal_places(tmp_path: Path) -> None:
    path = weights_of_varied_taps(tmp_path)
    torch.manual_seed(0)
    network = UninformedStudents(2, 1, "resnet10", path, widths=(8, 16), students=2, reduction=0.05)
    normal = alike_scans()
    changed = normal[8:].clone()
    changed[:, :, 8:30, 34:56] = torch.rand(2, 1, 22, 22)
    network.train()
    with torch.no_grad():
        network(normal[:8])

    def apart() -> float:
        network.eval()
        with torch.no_grad():
            network.collect(normal[:8])
            network.fit()
            return float(network.pool(network(changed)).min() - network.pool(network(normal[8:])).max())

    before = apart()
    train_for_seconds(network, network.learning_parameters(), ResidualLoss("l2"), normal[:8], 3e-3)
    after = apart()
    assert after > max(0.5, before + 0.5), (before, after)


def test_scripted_it_gives_the_same_map() -> None:
    network, image = _network().eval(), _scan(64, 60)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image), rtol=1e-5, atol=1e-5)

"""STFPM by its paper: who learns what, map and score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plain_resnet import plain_taps, varied_taps, vary_norms
from torch import Tensor
from torch.nn import functional

from medad_plugins.losses import LocalCosineLoss
from medad_plugins.methods.stfpm import STFPM


def _stfpm(spatial_dims: int = 2, reduction: str | float = "max") -> STFPM:
    torch.manual_seed(0)
    return STFPM(spatial_dims, 1, "resnet10", "none", reduction)


@pytest.fixture(scope="module")
def network() -> STFPM:
    """In eval mode, with norms that do something; not to be changed."""
    network = _stfpm()
    vary_norms(network)
    vary_norms(network.student, seed=1)
    return network.eval()


def _scan(*size: int) -> Tensor:
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))


def _fine_map(network: STFPM, image: Tensor) -> Tensor:
    """Product over scales of half the squared distance of unit vectors, on the grid of stride 4, by loops."""
    rgb = image.expand(-1, 3, *image.shape[2:])
    taps = [plain_taps(part.state_dict(), "resnet10", rgb, 3) for part in (network.student, network.teacher)]
    product = torch.ones(2, 1, *taps[0][0].shape[2:])
    for student, teacher in zip(*taps, strict=True):
        distance = torch.zeros(2, 1, *student.shape[2:])
        for case, row, column in np.ndindex(2, *student.shape[2:]):
            s, t = (features[case, :, row, column].double().numpy() for features in (student, teacher))
            distance[case, 0, row, column] = 0.5 * ((s / np.linalg.norm(s) - t / np.linalg.norm(t)) ** 2).sum()
        product = product * functional.interpolate(distance, product.shape[2:], mode="bilinear", align_corners=False)
    return product


@pytest.mark.parametrize("size", [(64, 64), (50, 37)])
def test_map_is_the_product_over_scales_brought_to_the_image(network: STFPM, size: tuple[int, int]) -> None:
    image = _scan(*size)
    with torch.no_grad():
        anomaly_map = network(image)
        fine = _fine_map(network, image)
    expected = functional.interpolate(fine, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(anomaly_map, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))
    # the score is that of the enlarged map and not of the grid's
    torch.testing.assert_close(network.pool(anomaly_map), expected.amax((1, 2, 3)), rtol=1e-3, atol=0)
    assert anomaly_map.dtype == torch.float32 and 0 <= float(anomaly_map.min()) < float(anomaly_map.max()) <= 1


def test_the_teacher_is_pretrained_and_frozen_and_the_student_starts_at_random(tmp_path: Path) -> None:
    state = {n: v for n, v in varied_taps("resnet10").state_dict().items() if "layer4" not in n}
    torch.save(state, tmp_path / "weights.pth")
    network = STFPM(2, 1, "resnet10", str(tmp_path / "weights.pth"))
    assert all(torch.equal(network.teacher.state_dict()[name], value) for name, value in state.items())
    assert not torch.equal(network.student.conv1.weight, network.teacher.conv1.weight)
    before = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    LocalCosineLoss(weight=2.0)(network(_scan(32, 32))).backward()
    assert all((p.grad is not None) == name.startswith("student.") for name, p in network.named_parameters())
    changed = {name.split(".")[0] for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert changed == {"student"}


def test_without_weights_student_and_teacher_differ() -> None:
    network = _stfpm()
    assert not torch.equal(network.student.conv1.weight, network.teacher.conv1.weight)


@pytest.mark.parametrize("reduction", ["mean", 0.1])
def test_other_reductions_take_the_same_map(network: STFPM, reduction: str | float) -> None:
    other, image = _stfpm(reduction=reduction).eval(), _scan(32, 32)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image))


def test_volumes() -> None:
    network, image = _stfpm(3).train(), _scan(32, 17, 24)
    with torch.no_grad():
        assert 0 < float(LocalCosineLoss(weight=2.0)(network(image))) < 12
        assert network.eval()(image).shape == image.shape
